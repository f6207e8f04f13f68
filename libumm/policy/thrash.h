/* SPDX-License-Identifier: MIT */
/*
 * Thrashing: what becomes of a page that a CPU and a device, or two devices, take from each other
 * again and again. Each policy is a file of its own behind struct thrash_ops, and knows nothing of
 * the library: no locks, no system calls, no allocation, and no clock but the one that it is told.
 * The library calls it under a lock of its own, the simulator without any.
 */
#ifndef THRASH_H
#define THRASH_H

#include <stdbool.h>
#include <stdint.h>

#define THRASH_PAGES 1024 /* that are remembered: by number, modulo this */

#define THRASH_EVENTS	3 /* so many losses, each within a lapse of the one before: it thrashes */
#define THRASH_LAPSE_NS UINT64_C(500000)
#define THRASH_WAITS	10 /* so often somebody waits for it; then it is pinned */
#define THRASH_PIN_NS	UINT64_C(150000000)
#define THRASH_RESETS	4 /* so often it is forgotten that it has thrashed */

struct thrash_entry {
	uint64_t page;	    /* a number: address / page size */
	uint64_t came_ns;   /* when it was last taken */
	uint64_t pinned_ns; /* it stays until then; 0: it is not pinned */
	uint32_t who;	    /* who took it; 0: nobody */
	uint8_t events; /* losses that followed each other closely; no more than THRASH_EVENTS */
	uint8_t waits;
	uint8_t resets;
	bool waiting; /* somebody was told to wait since it was taken */
};

struct thrash {
	uint64_t lapse_ns; /* losses so far apart are nobody's trouble */
	uint64_t wait_ns;  /* who took a page keeps it for so long */
	uint64_t pin_ns;
	uint32_t waits;
	struct thrash_entry entries[THRASH_PAGES];
};

/* Somebody misses a page that another one has taken. */
struct thrash_miss {
	uint64_t page;
	uint64_t now_ns;
	uint32_t who;  /* any number but 0 that is the same for the same device, or for the CPU */
	bool may_wait; /* else WAIT is no answer */
	bool here;     /* he can use it where it is; else STAY is no answer */
	bool shared;   /* whoever misses it, both could use it in place at home */
};

enum thrash_verdict {
	THRASH_MOVE, /* it goes to whoever missed it */
	THRASH_WAIT, /* it stays until *until_ns: ask again then */
	THRASH_STAY, /* he uses it where it is */
};

struct thrash_ops {
	const char *name;
	enum thrash_verdict (*miss)(struct thrash *thrash, const struct thrash_miss *miss,
				    uint64_t *until_ns);
};

extern const struct thrash_ops thrash_off;
extern const struct thrash_ops thrash_pin;
extern const struct thrash_ops thrash_throttle;

/* All of them; by name, or NULL. */
#define NR_THRASH 3
extern const struct thrash_ops *const thrash_policies[NR_THRASH];
const struct thrash_ops *thrash_by_name(const char *name);

/* What is 0 is as usual. The entries are zero already. */
struct thrash_limits {
	uint64_t lapse_ns, wait_ns, pin_ns;
	uint32_t waits;
};
void thrash_init(struct thrash *thrash, const struct thrash_limits *limits);

/* Is it known to thrash? Then nothing is gained by bringing its neighbours along. */
bool thrash_is(const struct thrash *thrash, uint64_t page, uint64_t now_ns);

#endif
