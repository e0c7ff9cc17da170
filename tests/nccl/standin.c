/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A library with NCCL's symbols and signatures, and nothing behind them: what a probe sees of a call is the
 * same. Communicators are made and ended, groups held, errors returned, and a call takes as long as asked.
 *
 * STANDIN_DELAY_US: how long a collective takes. STANDIN_OLD: addresses of communicators are written at the
 * group's end, as NCCL did before 2.14. STANDIN_ASYNC_ERROR: what ncclCommGetAsyncError tells.
 */
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

struct communicator {
	int nranks, rank, device;
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

static result_t collective(comm_t comm)
{
	const char *delay = getenv("STANDIN_DELAY_US");

	if (delay)
		usleep(atoi(delay));
	return comm ? SUCCESS : INVALID_ARGUMENT;
}

#define COLLECTIVE(name, ...)                                                                                \
	result_t p##name(__VA_ARGS__)                                                                        \
	{                                                                                                    \
		return collective(comm);                                                                     \
	}                                                                                                    \
	EXPORT(name)

COLLECTIVE(ncclAllReduce, const void *s, void *r, size_t count, int type, int op, comm_t comm, void *stream)
COLLECTIVE(ncclReduce, const void *s, void *r, size_t count, int type, int op, int root, comm_t comm,
	   void *stream)
COLLECTIVE(ncclAllGather, const void *s, void *r, size_t count, int type, comm_t comm, void *stream)
COLLECTIVE(ncclReduceScatter, const void *s, void *r, size_t count, int type, int op, comm_t comm,
	   void *stream)
COLLECTIVE(ncclAlltoAll, const void *s, void *r, size_t count, int type, comm_t comm, void *stream)
COLLECTIVE(ncclGather, const void *s, void *r, size_t count, int type, int root, comm_t comm, void *stream)
COLLECTIVE(ncclScatter, const void *s, void *r, size_t count, int type, int root, comm_t comm, void *stream)
COLLECTIVE(ncclSend, const void *s, size_t count, int type, int peer, comm_t comm, void *stream)
COLLECTIVE(ncclRecv, void *r, size_t count, int type, int peer, comm_t comm, void *stream)
COLLECTIVE(ncclBroadcast, const void *s, void *r, size_t count, int type, int root, comm_t comm, void *stream)

COLLECTIVE(ncclAllReduceConfig, const void *s, void *r, size_t count, int type, int op, comm_t comm,
	   void *stream, const void *config)
COLLECTIVE(ncclReduceConfig, const void *s, void *r, size_t count, int type, int op, int root, comm_t comm,
	   void *stream, const void *config)
COLLECTIVE(ncclAllGatherConfig, const void *s, void *r, size_t count, int type, comm_t comm, void *stream,
	   const void *config)
COLLECTIVE(ncclPutSignal, const void *s, size_t count, int type, int peer, void *window, size_t offset,
	   int index, int context, unsigned int flags, comm_t comm, void *stream)
COLLECTIVE(ncclSignal, int peer, int index, int context, unsigned int flags, comm_t comm, void *stream)
COLLECTIVE(ncclWaitSignal, int count, void *descriptions, comm_t comm, void *stream)
#ifdef NEWER /* than any NCCL */
COLLECTIVE(ncclAllReduceTwice, const void *s, void *r, size_t count, int type, int op, comm_t comm,
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

	*made = (struct communicator){nranks, rank, device};
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

result_t pncclCommInitRank(comm_t *out, int nranks, unique_id id, int rank)
{
	if (rank < 0 || rank >= nranks)
		return INVALID_ARGUMENT;
	return hand_out(out, make(nranks, rank, rank));
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
	if (--depth)
		return SUCCESS;
	for (int i = 0; i < late_count; i++)
		*late[i].out = late[i].made;
	late_count = 0;
	return SUCCESS;
}
EXPORT(ncclGroupEnd)
