/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What BPF programs need besides the kernel's headers: sections, BTF map definitions, and the helpers
 * that these programs call, declared by number as the instruction set requires.
 */
#pragma once

#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#undef __always_inline /* of linux/stddef.h: a hint only */
#define __always_inline inline __attribute__((always_inline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Keeps a value in one register from here on: the verifier knows bounds by register, not by variable. */
#define PIN(value) asm volatile("" : "+r"(value))

/* A map's attributes are encoded in the types of its struct's members; the loader reads them from BTF. */
#define MAP_UINT(name, value) int(*name)[value]
#define MAP_TYPE(name, value) typeof(value) *name
#define MAP_INNER(name, ...) typeof(__VA_ARGS__) *name[]

/* Constants set by the loader before it freezes .rodata; volatile, or clang would fold the initial 0. */
#define SWITCH(type, name) const volatile type name = 0

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
/*
 * int: the verifier replaces these by calls of the map's own function, which returned an int before
 * Linux 6.4. The upper half of the register is then 0, so that a 64-bit comparison with -EEXIST fails.
 */
static int (*bpf_map_update_elem)(void *map, const void *key, const void *value,
				  __u64 flags) = (void *)BPF_FUNC_map_update_elem;
static int (*bpf_map_delete_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
static long (*bpf_probe_read_user)(void *to, __u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user;
static __u64 (*bpf_get_current_pid_tgid)(void) = (void *)BPF_FUNC_get_current_pid_tgid;
static __u64 (*bpf_get_current_uid_gid)(void) = (void *)BPF_FUNC_get_current_uid_gid;
static long (*bpf_get_current_comm)(void *to, __u32 size) = (void *)BPF_FUNC_get_current_comm;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static __u32 (*bpf_get_smp_processor_id)(void) = (void *)BPF_FUNC_get_smp_processor_id;
static __u64 (*bpf_jiffies64)(void) = (void *)BPF_FUNC_jiffies64;
static long (*bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to,
				  __u32 len) = (void *)BPF_FUNC_skb_load_bytes;
static long (*bpf_skb_load_bytes_relative)(const void *skb, __u32 offset, void *to, __u32 len,
					   __u32 start) = (void *)BPF_FUNC_skb_load_bytes_relative;
static long (*bpf_skb_get_xfrm_state)(struct __sk_buff *skb, __u32 index, struct bpf_xfrm_state *to,
				      __u32 size, __u64 flags) = (void *)BPF_FUNC_skb_get_xfrm_state;
/* By number: the build host's headers may be older than the running kernel. */
static __u64 (*bpf_xdp_get_buff_len)(struct xdp_md *ctx) = (void *)188; /* Linux 5.18 */
static long (*bpf_xdp_load_bytes)(struct xdp_md *ctx, __u32 offset, void *to,
				  __u32 len) = (void *)189;	/* Linux 5.18 */
static __u64 (*bpf_get_attach_cookie)(void *ctx) = (void *)174; /* Linux 5.15 */
static long (*bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_lock;
static long (*bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_unlock;
static long (*bpf_tail_call)(void *ctx, void *programs, __u32 index) = (void *)BPF_FUNC_tail_call;
static void *(*bpf_sk_storage_get)(void *map, void *socket, void *value,
				   __u64 flags) = (void *)BPF_FUNC_sk_storage_get;
static struct bpf_sock *(*bpf_sk_fullsock)(struct bpf_sock *socket) = (void *)BPF_FUNC_sk_fullsock;
static struct bpf_sock *(*bpf_skc_lookup_tcp)(void *ctx, struct bpf_sock_tuple *tuple, __u32 size,
					      __u64 netns, __u64 flags) = (void *)BPF_FUNC_skc_lookup_tcp;
static struct bpf_sock *(*bpf_sk_lookup_tcp)(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns,
					     __u64 flags) = (void *)BPF_FUNC_sk_lookup_tcp;
static struct bpf_sock *(*bpf_sk_lookup_udp)(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns,
					     __u64 flags) = (void *)BPF_FUNC_sk_lookup_udp;
static long (*bpf_sk_release)(struct bpf_sock *socket) = (void *)BPF_FUNC_sk_release;
static __u64 (*bpf_get_socket_cookie)(void *ctx) = (void *)BPF_FUNC_get_socket_cookie;
static __u64 (*bpf_get_current_cgroup_id)(void) = (void *)BPF_FUNC_get_current_cgroup_id;
static __u64 (*bpf_skb_cgroup_id)(struct __sk_buff *skb) = (void *)BPF_FUNC_skb_cgroup_id;
static long (*bpf_fib_lookup)(void *ctx, struct bpf_fib_lookup *route, int size,
			      __u32 flags) = (void *)BPF_FUNC_fib_lookup;

/*
 * Functions of the kernel that are not helpers (kfuncs). Only the running kernel's BTF knows their numbers:
 * the loader replaces a call of KERNEL_FUNCTION and more, or what there is no function for, by zero
 * (xtrace/kernel/elf.py).
 */
#define KERNEL_FUNCTION 0x6b660000

static void *(*bpf_cast_to_kern_ctx)(void *context) = (void *)(KERNEL_FUNCTION + 0); /* Linux 6.2 */
