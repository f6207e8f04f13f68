/* SPDX-License-Identifier: MIT */
/* The simulator: traces, the memories that they are replayed against, and what comes of it. */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "policy/ahead.h"
#include "policy/policy.h"
#include "policy/thrash.h"

#define SIM_WORDS 8 /* a bit for each of the 512 pages of a block */

/* A CPU missed a page. */
struct sim_miss {
	uint64_t page;
	uint32_t thread;
};

/* Pages came to a device memory, or left it. */
struct sim_move {
	uint64_t page;
	uint32_t npages; /* of one block */
	uint32_t memory;
	uint64_t after; /* so many misses of CPUs */
	bool comes;
};

struct sim_result {
	uint64_t uses, misses, evictions; /* of blocks: a miss finds none of it */
	uint64_t hits;			  /* uses that find all they want */
	uint64_t faults;		  /* for which anything of a block was to come */
	uint64_t batches;		  /* of faults that are served in one go */
	uint64_t cpu_faults;	      /* recorded: pages that a CPU missed, for they were there */
	uint64_t bytes_in, bytes_out; /* moved to the memory, and from it for lack of room */
};

enum step_kind {
	STEP_USE,   /* the device used these pages */
	STEP_BRING, /* it missed these pages */
	STEP_SPARE, /* they came because there was room */
	STEP_GONE,  /* they leave, whatever the order, and make room */
	STEP_MISS,  /* a CPU missed this page */
	STEP_EMPTY, /* of no block: a driver wanted so many frames to be free */
	STEP_NONE,  /* the library evicted here, which a replay decides by itself */
};

/* What a recorded trace knows of a use. */
struct trace_step {
	uint64_t pages[SIM_WORDS];
	enum step_kind kind;
	bool whole;	/* the block was new to the library */
	bool came;	/* anything did */
	bool own;	/* a use of its own; else it is told of what an earlier step was for */
	uint32_t after; /* STEP_BRING: the request began after so many steps; STEP_EMPTY: frames */
	uint32_t anew;	/* which of the trace's, from 1 on; 0: none */
};

/* Pages of a step that move although there are copies of them, which go when they have come. */
struct trace_anew {
	uint64_t pages[SIM_WORDS];
};

/* Blocks in the order of their use. A use that follows one of the same block is left out. */
struct trace {
	uint32_t *block; /* numbers from 0 */
	size_t n, room;
	uint32_t nblocks; /* one more than the highest */
	uint32_t *number; /* of each in the file that it was read from; or NULL: the same */
	char name[32];
	/* Of a recorded one; else step is NULL. */
	struct trace_step *step; /* of each use */
	struct trace_anew *anew;
	uint32_t nanew;
	uint32_t frames;       /* of the memory that it was */
	bool blocks;	       /* its device tells of blocks, whatever it used of them */
	uint64_t npages;       /* that came, at most, of all blocks together */
	uint64_t cpu_misses;   /* of pages that devices had */
	struct sim_miss *miss; /* each of them */
	struct sim_move *move; /* of all memories, in order */
	size_t nmoves;
	uint64_t lost;		/* events that found no room */
	struct sim_result seen; /* what the library counted */
};

/* What all blocks of a trace take, in what memories are measured in: pages of a recorded one, else
 * blocks. */
uint64_t trace_size(const struct trace *trace);

/* 0 or -ENOMEM. */
int trace_add(struct trace *trace, uint32_t block);
/* Even if it is the same block again. */
int trace_push(struct trace *trace, uint32_t block);
void trace_fini(struct trace *trace);

/*
 * Traces in files: see trace.c. 0 or -errno; what is wrong with a file, -EINVAL, is said in `why`,
 * of `len` bytes.
 */
int trace_write(const struct trace *trace, FILE *file);
int trace_read(struct trace *trace, FILE *file, char *why, size_t len);
/* Likewise what the library recorded: see record.c. */
int record_read(struct trace *trace, FILE *file, char *why, size_t len);

/* Does a device of a recorded trace say what it uses? */
bool record_device_tells(const struct trace *trace);
/* A trace of what its CPUs missed. 0 or -ENOMEM. */
int record_misses(const struct trace *trace, struct trace *out);

/* The classic patterns, the same at every call; scaled to so many blocks in all. */
#define NR_PATTERNS 7
extern const char *const pattern_names[NR_PATTERNS];
/*
 * room: blocks that fit; a loop (0: of nblocks) and a hot set are made to its measure. 0; -ENOMEM,
 * -ENOENT.
 */
int pattern_make(const char *name, uint32_t nblocks, uint32_t room, struct trace *out);
/* With other random numbers, or of another length. */
#define PATTERN_ROUNDS 40
struct pattern_draw {
	uint64_t seed;	 /* not 0 */
	unsigned rounds; /* uses, in multiples of its size: PATTERN_ROUNDS, or more */
};
int pattern_drawn(const char *name, uint32_t nblocks, uint32_t room, struct pattern_draw draw,
		  struct trace *out);

/* A device that we need not own. */
struct sim_device {
	const char *name;
	const char *what;
	double batch_us; /* to hear of a batch of faults, and to let go on who waits for it */
	double fault_us; /* for each of its faults, until the first byte of the block comes */
	double gib_s;	 /* each way */
	double word_us;	 /* an access to memory at the other end */
};

#define NR_DEVICES 4
extern const struct sim_device sim_devices[NR_DEVICES];

/* Faults that a device has one behind the other are a batch; most of them in one. */
#define SIM_BATCH 256

double sim_stall_s(const struct sim_result *result, const struct sim_device *device);

/* Replay a trace in a memory of so many blocks, or (recorded) pages. 0 or -ENOMEM. */
int sim_replay(const struct trace *trace, const struct order_ops *ops, uint64_t room,
	       struct sim_result *out);
/*
 * The least misses that any order could have: evict what is used again last (Belady). Of a recorded
 * trace, whose blocks are not of one size, misses that no order can do without, and nothing else:
 * see bound.c.
 */
int sim_optimum(const struct trace *trace, uint64_t room, struct sim_result *out);
/* Of recorded ones, likewise. */
int sim_bound(const struct trace *trace, uint64_t room, struct sim_result *out);

/* Blocks by their next use, the latest first. */
struct use {
	size_t next; /* when the block is used again */
	uint32_t block;
};

struct heap {
	struct use *use; /* with room for all */
	size_t n;
};

void heap_push(struct heap *heap, struct use use);
struct use heap_pop(struct heap *heap);

uint32_t sim_count(const uint64_t *pages);

/*
 * Misses by share of memory, of each order; the optimum's, or the bound, last. Shares are of all
 * blocks; of a recorded trace, of the pages that came of all of them together.
 */
#define NR_SHARES 3
extern const unsigned sim_shares[NR_SHARES]; /* percent */
#define SIM_ROWS  24
#define SIM_LEAST 4 /* blocks, or recorded pages: a quarter is one at least */
struct sim_figures {
	unsigned nrows;
	char name[SIM_ROWS][32];
	bool bounded[SIM_ROWS]; /* what the optimum is, is not known */
	uint64_t room[SIM_ROWS][NR_SHARES];
	struct sim_result result[SIM_ROWS][NR_SHARES][NR_ORDERS + 1];
};
/* Of all patterns. */
int sim_figures(struct sim_figures *out);
/*
 * And of a trace, unless there is no row left for it, -E2BIG, or it is too small, -ERANGE; or it is
 * a recording that says nothing of other memories and orders, -EOPNOTSUPP.
 */
int sim_figures_add(struct sim_figures *out, const struct trace *trace);
/* The geometric mean of misses over the optimum's, where that is known. */
double sim_mean(const struct sim_figures *figures, unsigned order);
/* The worst misses over those of another order. */
double sim_worst(const struct sim_figures *figures, unsigned order, const struct order_ops *ops);
/* What a policy of prefetch makes of a walk over pages that are on a device. */
#define NR_WALKS    8
#define WALK_PAGES  32768
#define WALK_STRIDE 5
extern const char *const walk_names[NR_WALKS];
struct sim_coverage {
	uint64_t touched; /* pages */
	uint64_t faults;
	uint64_t came;	 /* pages that nobody had missed */
	uint64_t wasted; /* of them, those that nobody touched */
};
/* thread: what is to come after a page comes before the next access, else never. 0 or -ENOMEM. */
int sim_coverage(const struct ahead_ops *ops, unsigned walk, bool thread, struct sim_coverage *out);

/*
 * Likewise of the pages that a CPU missed in a recorded trace: what comes along is taken to be used
 * where it was missed in the recording before it went to a device again, and else to be wasted.
 * -ENOENT: it missed none.
 */
int sim_coverage_of(const struct ahead_ops *ops, const struct trace *trace, bool thread,
		    struct sim_coverage *out);

/* A second in which a CPU and a device touch the same pages: accesses, by whom. */
struct sim_pingpong {
	uint64_t cpu, device;
	uint64_t stream; /* of the device, to memory that only it uses */
	uint64_t moves, waits;
};
#define SIM_SHARED 16
struct sim_shared {
	const struct sim_device *device;
	unsigned npages; /* SIM_SHARED at most */
	bool in_place;	 /* the device can use them at home */
};
/* 0 or -ENOMEM. */
int sim_pingpong(const struct thrash_ops *ops, const struct sim_shared *shared,
		 struct sim_pingpong *out);

/* A picture of bars. */
#define CHART_GROUPS 8
#define CHART_SERIES 3
struct chart {
	const char *title;
	unsigned ngroups, nseries;
	char group[CHART_GROUPS][32];
	const char *series[CHART_SERIES];
	double value[CHART_GROUPS][CHART_SERIES];
	double most;	  /* a linear one ends there */
	unsigned decades; /* else 0 */
};
void chart_write(const struct chart *chart, FILE *file);

/* What can stand in a picture, of any text. */
void svg_text(const char *text, FILE *file);
void svg_write(const struct sim_figures *figures, FILE *file);

#endif
