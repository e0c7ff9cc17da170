/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A library with NCCL's symbols and signatures, and nothing behind them: what a probe sees of a call is the
 * same. Communicators are made and ended, groups held, errors returned, and a call takes as long as asked.
 *
 * STANDIN_MEETING: a file that the processes of a job share; in it ranks meet, as on GPUs: a collective
 * returns when all have called it with the same arguments, a send when it has its receive. STANDIN_STUCK: a
 * function, without nccl, that never returns. STANDIN_DELAY_US: how long a collective takes. STANDIN_OLD:
 * addresses of communicators are written at the group's end, as NCCL did before 2.14. STANDIN_ASYNC_ERROR:
 * what ncclCommGetAsyncError tells.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST_RANKS 16
#define MOST_MEETINGS 16

/* What the ranks of one communicator tell each other. */
struct meeting {
	uint64_t id;
	struct {
		uint64_t joined, begun, arguments;
		uint64_t sends[MOST_RANKS], receives[MOST_RANKS];
	} ranks[MOST_RANKS];
};

struct communicator {
	int nranks, rank, device;
	struct meeting *meeting; /* or NULL */
};
typedef struct communicator *comm_t;

typedef struct {
	char internal[128];
} unique_id;

typedef int result_t;
enum { SUCCESS, INVALID_ARGUMENT = 4, IN_PROGRESS = 7 };

#define EXPORT(name) __attribute__((visibility("default"), alias("p" #name))) extern typeof(p##name) name;

static __thread int depth;
static __thread struct {
	comm_t *out, made;
} late[64];
static __thread int late_count;

static struct {
	comm_t comm;
	int peer, is_send;
} grouped[64];
static int grouped_count;

static void get_stuck(const char *function)
{
	const char *stuck = getenv("STANDIN_STUCK");

	while (stuck && !strcmp(stuck, function))
		pause();
}

static struct meeting *find_meeting(uint64_t id)
{
	static struct meeting *all;
	const char *path = getenv("STANDIN_MEETING");
	int fd;

	if (!path || !id)
		return NULL;
	if (!all) {
		fd = open(path, O_RDWR);
		all = mmap(NULL, MOST_MEETINGS * sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
	}
	for (struct meeting *one = all; one < all + MOST_MEETINGS; one++) {
		uint64_t none = 0;

		__atomic_compare_exchange_n(&one->id, &none, id, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&one->id, __ATOMIC_SEQ_CST) == id)
			return one;
	}
	abort();
}

#define LOAD(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
#define ADD(place) __atomic_add_fetch(&(place), 1, __ATOMIC_SEQ_CST)

static void join(comm_t comm)
{
	struct meeting *meeting = comm->meeting;

	ADD(meeting->ranks[comm->rank].joined);
	for (int other = 0; other < comm->nranks; other++)
		while (!LOAD(meeting->ranks[other].joined))
			usleep(500);
}

/* Waits until all have made the call; without end if they do not agree. */
static void meet(comm_t comm, uint64_t arguments)
{
	struct meeting *meeting = comm->meeting;
	uint64_t number, theirs;

	meeting->ranks[comm->rank].arguments = arguments;
	number = ADD(meeting->ranks[comm->rank].begun);
	for (int other = 0; other < comm->nranks; other++) {
		while (LOAD(meeting->ranks[other].begun) < number)
			usleep(500);
		theirs = LOAD(meeting->ranks[other].arguments);
		while (LOAD(meeting->ranks[other].begun) == number && theirs != arguments)
			usleep(500);
	}
}

static void await_peer(comm_t comm, int peer, int is_send)
{
	struct meeting *meeting = comm->meeting;
	uint64_t *mine =
	    is_send ? &meeting->ranks[comm->rank].sends[peer] : &meeting->ranks[comm->rank].receives[peer];
	uint64_t *theirs =
	    is_send ? &meeting->ranks[peer].receives[comm->rank] : &meeting->ranks[peer].sends[comm->rank];

	while (LOAD(*theirs) < LOAD(*mine))
		usleep(500);
}

/* Whether ranks wait for each other in this process: only then is a communicator looked into. */
static int ranks_meet;

static result_t exchange(comm_t comm, int peer, int is_send)
{
	if (!comm)
		return INVALID_ARGUMENT;
	if (!ranks_meet || !comm->meeting)
		return SUCCESS;
	if (is_send)
		ADD(comm->meeting->ranks[comm->rank].sends[peer]);
	else
		ADD(comm->meeting->ranks[comm->rank].receives[peer]);
	if (depth) {
		grouped[grouped_count].comm = comm;
		grouped[grouped_count].peer = peer;
		grouped[grouped_count++].is_send = is_send;
	} else {
		await_peer(comm, peer, is_send);
	}
	return SUCCESS;
}

static result_t collective(comm_t comm, const char *function, uint64_t arguments)
{
	const char *delay = getenv("STANDIN_DELAY_US");

	if (delay)
		usleep(atoi(delay));
	get_stuck(function);
	if (!comm)
		return INVALID_ARGUMENT;
	if (ranks_meet && comm->meeting)
		meet(comm, arguments * 31 + strlen(function));
	return SUCCESS;
}

#define COLLECTIVE(name, arguments, ...)                                                                     \
	result_t p##name(__VA_ARGS__)                                                                        \
	{                                                                                                    \
		return collective(comm, &#name[4], arguments);                                               \
	}                                                                                                    \
	EXPORT(name)

#define SAME (count * 31 + type)
#define SAME_ROOT (SAME * 31 + root + 1)

COLLECTIVE(ncclAllReduce, SAME, const void *s, void *r, size_t count, int type, int op, comm_t comm,
	   void *stream)
COLLECTIVE(ncclReduce, SAME_ROOT, const void *s, void *r, size_t count, int type, int op, int root,
	   comm_t comm, void *stream)
COLLECTIVE(ncclAllGather, SAME, const void *s, void *r, size_t count, int type, comm_t comm, void *stream)
COLLECTIVE(ncclReduceScatter, SAME, const void *s, void *r, size_t count, int type, int op, comm_t comm,
	   void *stream)
COLLECTIVE(ncclAlltoAll, SAME, const void *s, void *r, size_t count, int type, comm_t comm, void *stream)
COLLECTIVE(ncclGather, SAME_ROOT, const void *s, void *r, size_t count, int type, int root, comm_t comm,
	   void *stream)
COLLECTIVE(ncclScatter, SAME_ROOT, const void *s, void *r, size_t count, int type, int root, comm_t comm,
	   void *stream)
result_t pncclSend(const void *s, size_t count, int type, int peer, comm_t comm, void *stream)
{
	return exchange(comm, peer, 1);
}
EXPORT(ncclSend)
result_t pncclRecv(void *r, size_t count, int type, int peer, comm_t comm, void *stream)
{
	return exchange(comm, peer, 0);
}
EXPORT(ncclRecv)
COLLECTIVE(ncclBroadcast, SAME_ROOT, const void *s, void *r, size_t count, int type, int root, comm_t comm,
	   void *stream)

COLLECTIVE(ncclAllReduceConfig, SAME, const void *s, void *r, size_t count, int type, int op, comm_t comm,
	   void *stream, const void *config)
COLLECTIVE(ncclReduceConfig, SAME_ROOT, const void *s, void *r, size_t count, int type, int op, int root,
	   comm_t comm, void *stream, const void *config)
COLLECTIVE(ncclAllGatherConfig, SAME, const void *s, void *r, size_t count, int type, comm_t comm,
	   void *stream, const void *config)
COLLECTIVE(ncclPutSignal, SAME, const void *s, size_t count, int type, int peer, void *window, size_t offset,
	   int index, int context, unsigned int flags, comm_t comm, void *stream)
COLLECTIVE(ncclSignal, 0, int peer, int index, int context, unsigned int flags, comm_t comm, void *stream)
COLLECTIVE(ncclWaitSignal, 0, int count, void *descriptions, comm_t comm, void *stream)
#ifdef NEWER /* than any NCCL */
COLLECTIVE(ncclAllReduceTwice, SAME, const void *s, void *r, size_t count, int type, int op, comm_t comm,
	   void *stream)
#endif

result_t ncclBroadcast(const void *s, void *r, size_t count, int type, int root, comm_t comm, void *stream);

/* As NCCL has it: through the symbol, in place. */
result_t pncclBcast(void *buffer, size_t count, int type, int root, comm_t comm, void *stream)
{
	result_t result = ncclBroadcast(buffer, buffer, count, type, root, comm, stream);

	asm volatile(""); /* no tail call */
	return result;
}
EXPORT(ncclBcast)

static comm_t make(int nranks, int rank, int device)
{
	comm_t made = malloc(sizeof(*made));

	*made = (struct communicator){nranks, rank, device, NULL};
	return made;
}

static result_t hand_out(comm_t *out, comm_t made)
{
	if (depth && getenv("STANDIN_OLD")) {
		late[late_count].out = out;
		late[late_count++].made = made;
	} else {
		*out = made;
	}
	return SUCCESS;
}

static comm_t make_met(int nranks, unique_id id, int rank)
{
	comm_t made = make(nranks, rank, rank);
	uint64_t first;

	memcpy(&first, id.internal, sizeof(first));
	made->meeting = find_meeting(first);
	if (made->meeting) {
		ranks_meet = 1;
		join(made);
	}
	get_stuck("CommInitRank");
	return made;
}

result_t pncclCommInitRank(comm_t *out, int nranks, unique_id id, int rank)
{
	if (rank < 0 || rank >= nranks)
		return INVALID_ARGUMENT;
	return hand_out(out, make_met(nranks, id, rank));
}
EXPORT(ncclCommInitRank)

result_t pncclCommInitRankConfig(comm_t *out, int nranks, unique_id id, int rank, void *config)
{
	hand_out(out, make(nranks, rank, rank));
	return config ? IN_PROGRESS : SUCCESS;
}
EXPORT(ncclCommInitRankConfig)

result_t pncclCommInitRankScalable(comm_t *out, int nranks, int rank, int ids, unique_id *id, void *config)
{
	return hand_out(out, make(nranks, rank, rank));
}
EXPORT(ncclCommInitRankScalable)

result_t pncclCommInitAll(comm_t *out, int number, const int *devices)
{
	for (int i = 0; i < number; i++)
		out[i] = make(number, i, devices ? devices[i] : i);
	return SUCCESS;
}
EXPORT(ncclCommInitAll)

result_t pncclCommSplit(comm_t comm, int color, int key, comm_t *out, void *config)
{
	*out = color < 0 ? NULL : make(comm->nranks / 2, key, comm->device);
	return SUCCESS;
}
EXPORT(ncclCommSplit)

result_t pncclCommShrink(comm_t comm, int *excluded, int number, comm_t *out, void *config, int flags)
{
	*out = make(comm->nranks - number, comm->rank, comm->device);
	return SUCCESS;
}
EXPORT(ncclCommShrink)

/* Those that are in the communicator keep their rank, and say -1. */
result_t pncclCommGrow(comm_t comm, int nranks, const unique_id *id, int rank, comm_t *out, void *config)
{
	*out = make(nranks, comm ? comm->rank : rank, comm ? comm->device : rank);
	return SUCCESS;
}
EXPORT(ncclCommGrow)

#define TELLS(name, field)                                                                                   \
	result_t p##name(comm_t comm, int *answer)                                                           \
	{                                                                                                    \
		*answer = comm->field;                                                                       \
		return SUCCESS;                                                                              \
	}                                                                                                    \
	EXPORT(name)

TELLS(ncclCommCount, nranks)
TELLS(ncclCommUserRank, rank)
TELLS(ncclCommCuDevice, device)

result_t pncclCommGetAsyncError(comm_t comm, result_t *answer)
{
	const char *error = getenv("STANDIN_ASYNC_ERROR");

	if (!comm)
		return INVALID_ARGUMENT;
	*answer = error ? atoi(error) : SUCCESS;
	return SUCCESS;
}
EXPORT(ncclCommGetAsyncError)

#define ENDS(name, statement)                                                                                \
	result_t p##name(comm_t comm)                                                                        \
	{                                                                                                    \
		statement;                                                                                   \
		return SUCCESS;                                                                              \
	}                                                                                                    \
	EXPORT(name)

ENDS(ncclCommFinalize, comm->rank = 0)
ENDS(ncclCommDestroy, free(comm))
ENDS(ncclCommAbort, comm->rank = 1; free(comm))

result_t pncclGroupStart(void)
{
	depth++;
	return SUCCESS;
}
EXPORT(ncclGroupStart)

result_t pncclGroupEnd(void)
{
	get_stuck("GroupEnd");
	if (--depth)
		return SUCCESS;
	for (int i = 0; i < grouped_count; i++)
		await_peer(grouped[i].comm, grouped[i].peer, grouped[i].is_send);
	grouped_count = 0;
	for (int i = 0; i < late_count; i++)
		*late[i].out = late[i].made;
	late_count = 0;
	return SUCCESS;
}
EXPORT(ncclGroupEnd)
