/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * rate LIBRARY CALLS_PER_SECOND: calls ncclAllReduce on a null communicator at times of an absolute clock.
 * Says `ready`, waits for a line, calls until the next one, then prints when each call began, in ns of the
 * wall clock.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MOST 1000000

static long long begun[MOST];

static long long now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
	void *library = argc == 3 ? dlopen(argv[1], RTLD_NOW) : NULL;
	int (*call)(const void *, void *, size_t, int, int, void *, void *) =
	    library ? dlsym(library, "ncclAllReduce") : NULL;
	struct pollfd input = {.fd = 0, .events = POLLIN};
	long long next, step;
	char buffer[2];
	int number;

	if (!call) {
		fprintf(stderr, "rate LIBRARY CALLS_PER_SECOND\n");
		return 2;
	}
	step = 1000000000LL / atol(argv[2]);
	puts("ready");
	fflush(stdout);
	getchar();
	next = now(CLOCK_MONOTONIC);
	for (number = 0; number < MOST && !poll(&input, 1, 0); number++) {
		struct timespec until = {next / 1000000000LL, next % 1000000000LL};

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
			continue;
		begun[number] = now(CLOCK_REALTIME);
		call(buffer, buffer + 1, 1, 7, 0, NULL, NULL);
		next += step;
	}
	for (int i = 0; i < number; i++)
		printf("%lld\n", begun[i]);
	return 0;
}
