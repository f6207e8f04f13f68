/* SPDX-License-Identifier: MIT */
/*
 * A second in which a CPU and a device touch the same few pages all the time, and what policies of
 * thrashing make of it: they are the files that the library runs, with a clock of the model's.
 *
 * Three go on beside each other, each by a clock of his own; whoever is furthest behind is next.
 * The CPU touches the shared pages in turn, and so does one work-item of the device; another one
 * streams through memory that is nobody else's, a miss for each page. The device's misses are
 * served one after the other: who waits for a shared page holds up those behind him.
 */
#include <errno.h>
#include <stdlib.h>

#include "sim.h"

#define SECOND_NS   1e9
#define LOCAL_NS    100 /* an access where the data is */
#define PAGE_BYTES  4096
#define PAGE_VISITS 512 /* accesses of the stream to a page */

#define CPU    1
#define DEVICE 2

struct page {
	bool home;
	bool mapped;	 /* at home, and the device uses it there */
	bool waited;	 /* the device has, for this miss */
	double ready_ns; /* nobody has it before */
};

struct world {
	const struct thrash_ops *ops;
	struct thrash *thrash;
	bool in_place;
	double fault_ns, move_ns, remote_ns;
	double served_ns; /* the device's misses are served until then */
	struct page pages[SIM_SHARED];
	unsigned npages;
	struct sim_pingpong *out;
};

static enum thrash_verdict ask(struct world *world, unsigned i, uint32_t who, double now_ns,
			       bool may_wait, double *until_ns)
{
	struct page *page = &world->pages[i];
	struct thrash_miss miss = {
		.page = i + 1,
		.now_ns = (uint64_t)(SECOND_NS + now_ns), /* it was quiet before */
		.who = who,
		.may_wait = may_wait,
		.here = who == DEVICE && world->in_place && page->home,
		.shared = world->in_place,
	};
	uint64_t until = 0;
	enum thrash_verdict verdict = world->ops->miss(world->thrash, &miss, &until);

	*until_ns = (double)until - SECOND_NS;
	return verdict;
}

static double later(double a, double b)
{
	return a > b ? a : b;
}

/* When the CPU's access to a page ends. */
static double cpu_access(struct world *world, unsigned i, double now_ns)
{
	struct page *page = &world->pages[i];
	double until_ns;

	world->out->cpu++;
	now_ns = later(now_ns, page->ready_ns);
	if (page->home)
		return now_ns + LOCAL_NS;
	ask(world, i, CPU, now_ns, false, &until_ns);
	now_ns += world->move_ns;
	world->out->moves++;
	*page = (struct page){ .home = true, .ready_ns = now_ns };
	return now_ns + LOCAL_NS;
}

/*
 * The device has missed a page that is at home: when it has been served, or (it was told to wait)
 * is to be looked at again.
 */
static double device_miss(struct world *world, unsigned i, double now_ns)
{
	struct page *page = &world->pages[i];
	enum thrash_verdict verdict;
	double until_ns;

	verdict = ask(world, i, DEVICE, now_ns, !page->waited, &until_ns);
	page->waited = verdict == THRASH_WAIT;
	if (page->waited) {
		world->out->waits++;
		return until_ns;
	}
	page->mapped = verdict == THRASH_STAY;
	page->home = page->mapped;
	world->out->moves += !page->mapped;
	now_ns += page->mapped ? world->fault_ns : world->move_ns;
	/* The CPU goes on meanwhile with what stays at home. */
	if (!page->home)
		page->ready_ns = now_ns;
	return now_ns;
}

/* *done: it was an access, else it is to be tried again. A miss that is served is one. */
static double device_access(struct world *world, unsigned i, double now_ns, bool *done)
{
	struct page *page = &world->pages[i];

	*done = !page->home || page->mapped;
	now_ns = later(now_ns, page->ready_ns);
	if (!*done && now_ns < world->served_ns)
		return world->served_ns;
	if (!*done) {
		now_ns = device_miss(world, i, now_ns);
		world->served_ns = now_ns;
		*done = !page->waited;
	}
	world->out->device += *done;
	return now_ns + (page->mapped ? world->remote_ns : LOCAL_NS);
}

/* One page of the stream. */
static double stream_access(struct world *world, double now_ns)
{
	world->out->stream += PAGE_VISITS;
	now_ns = later(now_ns, world->served_ns) + world->move_ns;
	world->served_ns = now_ns;
	return now_ns + (double)PAGE_VISITS * LOCAL_NS;
}

static void run(struct world *world)
{
	double cpu_ns = 0, device_ns = 0, stream_ns = 0;
	unsigned c = 0, d = 0;
	bool done;

	while (cpu_ns < SECOND_NS || device_ns < SECOND_NS || stream_ns < SECOND_NS) {
		if (cpu_ns <= device_ns && cpu_ns <= stream_ns) {
			cpu_ns = cpu_access(world, c++ % world->npages, cpu_ns);
		} else if (device_ns <= stream_ns) {
			device_ns = device_access(world, d % world->npages, device_ns, &done);
			d += done;
		} else {
			stream_ns = stream_access(world, stream_ns);
		}
	}
}

int sim_pingpong(const struct thrash_ops *ops, const struct sim_shared *shared,
		 struct sim_pingpong *out)
{
	const struct sim_device *device = shared->device;
	struct world world = {
		.ops = ops,
		.thrash = calloc(1, sizeof(*world.thrash)),
		.in_place = shared->in_place,
		.npages = shared->npages,
		.fault_ns = (device->batch_us + device->fault_us) * 1e3,
		.move_ns = (device->batch_us + device->fault_us) * 1e3 +
			   PAGE_BYTES / (device->gib_s * (double)(1 << 30)) * 1e9,
		.remote_ns = device->word_us * 1e3,
		.out = out,
	};

	*out = (struct sim_pingpong){ 0 };
	if (!world.thrash)
		return -ENOMEM;
	for (unsigned i = 0; i < shared->npages; i++)
		world.pages[i].home = true;
	thrash_init(world.thrash, &(struct thrash_limits){ 0 });
	run(&world);
	free(world.thrash);
	return 0;
}
