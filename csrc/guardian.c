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
#define WITHOUT_CALLS __attribute__((always_inline)) inline

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
static WITHOUT_CALLS void forget(struct range *kept, int count, unsigned long page)
{
	unsigned long place = 0;

	for (int i = 0; i < count; i++) {
		unsigned long begin = kept[i].begin & -page;

		if (begin > place)
			syscall(SYS_munmap, place, begin - place);
		if (kept[i].end > place)
			place = (kept[i].end + page - 1) & -page;
	}
}

/*
 * Whether all are closed: a filter of system calls may refuse it. With the pipe's other end the guardian
 * would wait for itself, and with a link the program would stay attached.
 */
static int close_others(int a, int b, int c)
{
	struct range kept[] = {{a, a}, {b, b}, {c, c}};
	unsigned long place = 0;
	long failed = 0;

	in_order(kept, 3);
	for (int i = 0; i < 3; i++) {
		if (kept[i].begin > place)
			failed |= syscall(SYS_close_range, place, kept[i].begin - 1, 0);
		place = kept[i].end + 1;
	}
	return !(failed | syscall(SYS_close_range, place, ~0U, 0));
}

/*
 * Whether the modes are those of the killed process, each of them. A line editor also turns off echo and
 * Ctrl-\, but differs in others (zsh and fish: Ctrl-Z). Which process group has the terminal does not tell:
 * dash takes it back and never sets the modes, so it would be left without echo.
 */
static WITHOUT_CALLS int is_in_use(const struct termios *now, const struct termios *before,
				   const struct terminal_modes *used)
{
	int differ = now->c_iflag != used->input || now->c_lflag != used->local ||
		     now->c_oflag != before->c_oflag || now->c_cflag != before->c_cflag;

	for (int i = 0; i < NCCS; i++)
		differ |= now->c_cc[i] != used->characters[i];
	return !differ;
}

/* In the new process. */
static WITHOUT_CALLS void guard(int keyboard, int screen, int dismissal, const struct termios *before,
				const struct terminal_modes *used, const char *leave, unsigned int length)
{
	struct termios now;
	char byte;
	long got;

	do
		got = syscall(SYS_read, dismissal, &byte, 1);
	while (got < 0 && errno == EINTR);
	if (got == 0) {
		if (!syscall(SYS_ioctl, keyboard, TCGETS, &now) && is_in_use(&now, before, used))
			syscall(SYS_ioctl, keyboard, TCSETS, before);
		syscall(SYS_write, screen, leave, length);
	}
	for (;;)
		syscall(SYS_exit_group, 0);
}

int xt_guard_terminal(int keyboard, int screen, int dismissal, const struct terminal_modes *modes,
		      const char *leave, unsigned int length)
{
	struct needed own = {(unsigned long)xt_guard_terminal, {0, 0}};
	struct needed library = {0, {0, 0}};
	unsigned long here = (unsigned long)__builtin_frame_address(0);
	unsigned long thread = (unsigned long)pthread_self(), error = (unsigned long)&errno;
	char text[MOST_LENGTH];
	struct terminal_modes used = *modes;
	struct termios before;
	unsigned long page = sysconf(_SC_PAGESIZE);
	__u64 all = ~0ULL, mask;
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
	/* not by libc, which leaves out its own two signals */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask, sizeof(all));
	pid = fork();
	if (!pid) {
		/* a process group of its own: signals to that of the tool, from the keyboard too, are not for
		 * it */
		setpgid(0, 0);
		prctl(PR_SET_NAME, "xtrace-guardian");
		if (!close_others(keyboard, screen, dismissal))
			_exit(1);
		forget(kept, 4, page);
		guard(keyboard, screen, dismissal, &before, &used, text, length);
	}
	pid = pid < 0 ? -errno : pid;
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
	return pid;
}
