/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <dirent.h>
#include <errno.h>
#include <linux/types.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "confine.h"
#include "shim.h"

#define MOST_THREADS 1024
#define PATIENCE_S 1
/* Used by nothing else. It stays handled: threads may answer late. */
#define CONFINE_SIGNAL (SIGRTMIN + 5)

/* What the handler, which has no other arguments, does and says. */
static struct {
	int ruleset_fd;
	__u64 capabilities;
	int failure;
	sem_t answered;
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

	(void)number;
	if (ret < 0)
		__atomic_store_n(&wanted.failure, ret, __ATOMIC_RELAXED);
	sem_post(&wanted.answered);
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

/* Wait for that many answers. Returns how many are missing. */
static int await_answers(int expected)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += PATIENCE_S;
	while (expected) {
		if (!sem_timedwait(&wanted.answered, &deadline))
			expected--;
		else if (errno != EINTR)
			break;
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
	if (sem_init(&wanted.answered, 0, 0) || sigaction(CONFINE_SIGNAL, &action, NULL))
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
