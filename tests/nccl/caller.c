/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * caller LIBRARY CALLS THREADS [FUNCTION]: calls every collective that the library has, or only that one,
 * with every datatype, in turn, on a null communicator. Says `ready`, waits for a line, calls, prints
 * nanoseconds of CPU time per call, waits for the end of input. Call i of each thread is of collective i % n
 * and datatype i / n % 12, with a count of i % 1000 + 1.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int (*seven)(const void *, void *, size_t, int, int, void *, void *);
typedef int (*eight)(const void *, void *, size_t, int, int, int, void *, void *);
typedef int (*six)(const void *, void *, size_t, int, void *, void *);
typedef int (*one_buffer)(void *, size_t, int, int, void *, void *);

static const struct {
	const char *name;
	int shape;
} functions[] = {
    {"ncclAllReduce", 7}, {"ncclBroadcast", 7},	    {"ncclBcast", 1},	 {"ncclReduce", 8},
    {"ncclAllGather", 6}, {"ncclReduceScatter", 7}, {"ncclAlltoAll", 6}, {"ncclGather", 7},
    {"ncclScatter", 7},	  {"ncclSend", 1},	    {"ncclRecv", 1},
};

static void *found[11];
static int shapes[11], number;
static long calls;

static void call(long i)
{
	static char send[8], receive[8];
	void *function = found[i % number];
	int type = i / number % 12;
	size_t count = i % 1000 + 1;

	switch (shapes[i % number]) {
	case 1:
		((one_buffer)function)(send, count, type, 0, NULL, NULL);
		break;
	case 6:
		((six)function)(send, receive, count, type, NULL, NULL);
		break;
	case 7:
		((seven)function)(send, receive, count, type, 0, NULL, NULL);
		break;
	case 8:
		((eight)function)(send, receive, count, type, 0, 0, NULL, NULL);
		break;
	}
}

static void *run(void *unused)
{
	for (long i = 0; i < calls; i++)
		call(i);
	return unused;
}

int main(int argc, char **argv)
{
	void *library = argc >= 4 ? dlopen(argv[1], RTLD_NOW) : NULL;
	int threads = argc >= 4 ? atoi(argv[3]) : 0;
	struct timespec begun, ended;
	pthread_t started[64];

	if (!library || threads < 1 || threads > 64) {
		fprintf(stderr, "caller LIBRARY CALLS THREADS [FUNCTION]: %s\n",
			argc >= 4 ? dlerror() : "three arguments");
		return 2;
	}
	calls = atol(argv[2]);
	for (int i = 0; i < 11; i++) {
		if (argc > 4 && strcmp(functions[i].name, argv[4]))
			continue;
		found[number] = dlsym(library, functions[i].name);
		shapes[number] = functions[i].shape;
		if (found[number])
			number++;
	}
	puts("ready");
	fflush(stdout);
	getchar();
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begun);
	for (int i = 0; i < threads; i++)
		pthread_create(&started[i], NULL, run, NULL);
	for (int i = 0; i < threads; i++)
		pthread_join(started[i], NULL);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
	printf("%.0f\n",
	       ((ended.tv_sec - begun.tv_sec) * 1e9 + ended.tv_nsec - begun.tv_nsec) / calls / threads);
	fflush(stdout);
	while (getchar() != EOF)
		continue;
	return 0;
}
