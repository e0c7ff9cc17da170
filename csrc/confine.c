/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <dirent.h>
#include <errno.h>
#include <linux/types.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"
#include "shim.h"

#define MOST_THREADS 1024
#define PATIENCE_MS 1000
/* Used by nothing else. It stays handled: threads may answer late. */
#define CONFINE_SIGNAL (SIGRTMIN + 5)

/* What the handler, which has no other arguments, does and says. */
static struct {
	int ruleset_fd;
	__u64 capabilities;
	int failure;
	/* an eventfd: semaphores of glibc 2.34 and newer are not in older ones */
	int answers_fd;
} wanted;

static int confine_this_thread(void)
{
	int ret = xt_no_new_privileges();

	if (!ret && wanted.ruleset_fd >= 0)
		ret = xt_landlock_restrict(wanted.ruleset_fd);
	return ret ? ret : xt_keep_capabilities(wanted.capabilities);
}

/* Only system calls, and functions of signal-safety(7). */
static void on_signal(int number)
{
	int saved = errno, ret = confine_this_thread();
	eventfd_t one = 1;

	(void)number;
	if (ret < 0)
		__atomic_store_n(&wanted.failure, ret, __ATOMIC_RELAXED);
	if (write(wanted.answers_fd, &one, sizeof(one)) < 0)
		__atomic_store_n(&wanted.failure, -errno, __ATOMIC_RELAXED);
	errno = saved;
}

static int is_known(const pid_t *known, int count, pid_t thread)
{
	while (count--)
		if (known[count] == thread)
			return 1;
	return 0;
}

/* Signal the threads that are not known yet, and append them. Returns how many, or -errno. */
static int signal_others(pid_t *known, int *count)
{
	DIR *threads = opendir("/proc/self/task");
	struct dirent *entry;
	int signalled = 0;

	if (!threads)
		return -errno;
	while ((entry = readdir(threads))) {
		pid_t thread = atoi(entry->d_name); /* 0: . and .. */

		if (!thread || is_known(known, *count, thread))
			continue;
		if (*count == MOST_THREADS) {
			signalled = -E2BIG;
			break;
		}
		known[(*count)++] = thread;
		/* fails if it has ended */
		signalled += syscall(SYS_tgkill, getpid(), thread, CONFINE_SIGNAL) == 0;
	}
	closedir(threads);
	return signalled;
}

/* Wait for that many answers, as long as another comes. Returns how many are missing. */
static int await_answers(int expected)
{
	struct pollfd answers = {.fd = wanted.answers_fd, .events = POLLIN};
	eventfd_t one;
	int ready;

	while (expected) {
		ready = poll(&answers, 1, PATIENCE_MS);
		if (!ready || (ready < 0 && errno != EINTR))
			break;
		if (ready > 0 && !eventfd_read(wanted.answers_fd, &one))
			expected--;
	}
	return expected;
}

int xt_confine(int ruleset_fd, __u64 capabilities)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	pid_t known[MOST_THREADS] = {(pid_t)syscall(SYS_gettid)};
	int count = 1, late = 0, signalled, ret;

	wanted.ruleset_fd = ruleset_fd;
	wanted.capabilities = capabilities;
	wanted.failure = 0;
	sigfillset(&action.sa_mask);
	/* stays open, like the ruleset: threads may answer late */
	wanted.answers_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	if (wanted.answers_fd < 0 || sigaction(CONFINE_SIGNAL, &action, NULL))
		return -errno;
	ret = confine_this_thread();
	if (ret < 0)
		return ret;
	/* a thread that was not confined yet may have started another one meanwhile */
	do {
		signalled = signal_others(known, &count);
		if (signalled < 0)
			return signalled;
		late += await_answers(signalled);
	} while (signalled);
	ret = __atomic_load_n(&wanted.failure, __ATOMIC_RELAXED);
	return ret ? ret : late;
}
