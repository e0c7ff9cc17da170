/* SPDX-License-Identifier: GPL-3.0-or-later */
#define _GNU_SOURCE
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <link.h>
#include <linux/types.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guardian.h"

#define MOST_LENGTH 256
#define STACK_BELOW (64UL << 10)
#define STACK_ABOVE (8UL << 20)
#define AROUND_THREAD (64UL << 10)
#define PAGE_MASK 4095UL

struct range {
	unsigned long begin, end;
};

/* Code and data that the guardian goes on to use. */
struct needed {
	unsigned long address;
	struct range object;
};

static void in_order(struct range *ranges, int count)
{
	for (int i = 1; i < count; i++)
		for (int j = i; j > 0 && ranges[j].begin < ranges[j - 1].begin; j--) {
			struct range other = ranges[j];

			ranges[j] = ranges[j - 1];
			ranges[j - 1] = other;
		}
}

static int find_object(struct dl_phdr_info *info, size_t size, void *data)
{
	struct needed *needed = data;
	struct range found = {~0UL, 0};

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		unsigned long begin = info->dlpi_addr + header->p_vaddr;

		if (header->p_type != PT_LOAD)
			continue;
		if (begin < found.begin)
			found.begin = begin;
		if (begin + header->p_memsz > found.end)
			found.end = begin + header->p_memsz;
	}
	if (needed->address < found.begin || needed->address >= found.end)
		return 0;
	needed->object = found;
	return 1;
}

/*
 * Unmap all but what the guardian needs. Otherwise it would hold a copy of each page that the other process
 * changes. Nothing is called from here on but syscall(), whose address is known: there is no dynamic linker
 * left.
 */
static void forget(struct range *kept, int count)
{
	unsigned long place = 0;

	for (int i = 0; i < count; i++) {
		unsigned long begin = kept[i].begin & ~PAGE_MASK;

		if (begin > place)
			syscall(SYS_munmap, place, begin - place);
		if (kept[i].end > place)
			place = (kept[i].end + PAGE_MASK) & ~PAGE_MASK;
	}
}

static void close_others(int a, int b, int c)
{
	struct range kept[] = {{a, a}, {b, b}, {c, c}};
	unsigned long place = 0;

	in_order(kept, 3);
	for (int i = 0; i < 3; i++) {
		if (kept[i].begin > place)
			syscall(SYS_close_range, place, kept[i].begin - 1, 0);
		place = kept[i].end + 1;
	}
	syscall(SYS_close_range, place, ~0U, 0);
}

/* In the new process. */
__attribute__((noreturn)) static void guard(int keyboard, int screen, int dismissal,
					    const struct termios *before, const char *leave,
					    unsigned int length)
{
	struct termios now;
	char byte;
	long got;

	do
		got = syscall(SYS_read, dismissal, &byte, 1);
	while (got < 0 && errno == EINTR);
	if (got == 0) {
		/* Ctrl-\ is off: nobody has set the modes since. A shell that has them back sets its own. */
		if (!syscall(SYS_ioctl, keyboard, TCGETS, &now) && !now.c_cc[VQUIT] &&
		    !(now.c_lflag & ICANON))
			syscall(SYS_ioctl, keyboard, TCSETS, before);
		syscall(SYS_write, screen, leave, length);
	}
	for (;;)
		syscall(SYS_exit_group, 0);
}

int xt_guard_terminal(int keyboard, int screen, int dismissal, const char *leave, unsigned int length)
{
	struct needed own = {(unsigned long)xt_guard_terminal, {0, 0}};
	struct needed library = {0, {0, 0}};
	unsigned long here = (unsigned long)__builtin_frame_address(0);
	unsigned long thread = (unsigned long)pthread_self(), error = (unsigned long)&errno;
	char text[MOST_LENGTH];
	struct termios before;
	sigset_t all, mask;
	int pid;

	if (length > sizeof(text))
		return -E2BIG;
	memcpy(text, leave, length);
	if (syscall(SYS_ioctl, keyboard, TCGETS, &before) < 0)
		return -errno;
	library.address = (unsigned long)syscall;
	if (!dl_iterate_phdr(find_object, &own) || !dl_iterate_phdr(find_object, &library))
		return -ENOEXEC;
	struct range kept[] = {
	    own.object,
	    library.object,
	    {here - STACK_BELOW, here + STACK_ABOVE},
	    {(thread < error ? thread : error) - AROUND_THREAD,
	     (thread < error ? error : thread) + AROUND_THREAD},
	};
	in_order(kept, 4);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &mask);
	pid = fork();
	if (!pid) {
		/* a process group of its own: signals to that of the tool, from the keyboard too, are not for
		 * it */
		setpgid(0, 0);
		prctl(PR_SET_NAME, "xtrace-guardian");
		close_others(keyboard, screen, dismissal);
		forget(kept, 4);
		guard(keyboard, screen, dismissal, &before, text, length);
	}
	pid = pid < 0 ? -errno : pid;
	sigprocmask(SIG_SETMASK, &mask, NULL);
	return pid;
}
