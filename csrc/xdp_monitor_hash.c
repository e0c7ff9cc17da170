// SPDX-License-Identifier: GPL-2.0-or-later
/* The packet programs for kernels without compare-and-swap in BPF. */
#define HASH_TABLES
#include "xdp_monitor.c"
