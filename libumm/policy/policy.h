/* SPDX-License-Identifier: MIT */
/*
 * Orders of eviction: which block of a full memory goes. Each order is a file of its own behind
 * struct order_ops, and knows nothing of the library: no locks, no system calls, no allocation.
 * The library calls it under the lock of a memory, the simulator without any. docs/policy.md
 * shows how to write one.
 */
#ifndef POLICY_H
#define POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A block that a memory holds, part of whatever describes it there; or a ghost: one that left. */
struct order_entry {
	uintptr_t key;			   /* its address */
	struct order_entry *prev, *next;   /* of the list that it is in */
	struct order_entry *above, *below; /* of the stack */
	struct order_entry *after, *prior; /* of all that are there, by last use */
	union {
		struct { /* adaptive: of what is spare */
			struct order_entry *newer, *older;
		};
		struct {
			struct order_entry *chain; /* of a ghost: of its bucket */
			struct order_entry *real;  /* of lru's table: what is there, or NULL */
		};
	};
	uint64_t used;		 /* order->clock when it was last used */
	uint64_t asked;		 /* ticket of the eviction that chose it last */
	uint64_t counted;	 /* order->arrivals when a use was last counted */
	uint32_t count, epoch;	 /* LRFU: its uses, as of that epoch; due: its gap, and deviation */
	_Atomic uint16_t npages; /* the caller's: pages of it that are there */
	uint8_t where;		 /* the order's own: the list it is in */
	uint8_t uses;		 /* the order's own */
	bool stacked;		 /* it is in the stack */
	bool spare;		 /* adaptive: it is there, and would not be by lru */
	bool owed;		 /* of lru's table: it was evicted, at a price */
};

struct order_list {
	struct order_entry *head, *tail; /* head: what came last */
	uint32_t n;
};

/* What has left lately, by key: room for `most`, beyond which the oldest is forgotten. */
struct ghosts {
	struct order_entry *pool;
	struct order_entry **bucket;
	uint32_t most, nbuckets;
	uint32_t fresh; /* of the pool: used so far */
	struct order_entry *unused;
	struct order_list list;
};

/* A memory of keys alone, in which an order shows what it would have done. */
struct shadow {
	struct order *order;
	struct order *table;	   /* its ghosts are the keys that are there, and */
	struct order_entry *entry; /* for each of them, by number, the entry of the order */
	uint64_t npages;	   /* of all that is there */
	bool crowded;		   /* more would be there, but for the table */
};

/* Orders that an order chooses among; and lists of a ring, a power of two. */
#define NR_SHADOWS 4
#define ORDER_RING 128

struct order {
	const struct order_ops *ops;
	uint64_t clock;	   /* counts uses */
	uint64_t arrivals; /* counts insertions */
	uint64_t before;   /* when what is touched was used before */
	uint64_t tickets;
	uint32_t nentries;
	struct order_entry *last, *first; /* of the entries: used last, and least recently */
	uint32_t full; /* entries when last a victim was asked for; at first, what fits */
	uint32_t nlow; /* LIRS: entries of low recency */
	struct order_list list[2];
	struct order_list *ring; /* LRFU: by worth; */
	uint64_t turned;	 /* its epoch began at that clock */
	uint32_t epoch;
	uint32_t gap, deviation;	  /* due: of what was used twice lately */
	struct order_entry *top, *bottom; /* of the stack */
	struct ghosts ghosts;
	/* Of an order that chooses among others. */
	struct shadow shadow[NR_SHADOWS];
	unsigned now;		    /* it does as this shadow does */
	int64_t behind[NR_SHADOWS]; /* what each has missed more than the best, lately */
	struct order_entry *came;   /* last, and the shadows have not heard of it; or NULL */
	uint64_t room;		    /* pages that fit */
	uint32_t sample;	    /* the shadows hear of one block in so many: a power of two */
	/* What it may miss more than lru: allowance.c. */
	struct order *plain; /* a table of what lru would have; */
	uint64_t plain_pages;
	uint64_t plain_excess; /* pages that it is still to evict for nobody's sake */
	int64_t credit;
	int64_t lead[NR_SHADOWS];
	struct order_entry *newest, *oldest; /* of what is spare */
};

/* What an eviction takes: what was last used before `before`, but never `except`, for the sake of
 * which it is; 0: frames are to be free, for nobody's sake. */
struct order_want {
	uint64_t before;
	uint64_t ticket; /* of this eviction: it asks for each entry once */
	uintptr_t except;
};

struct order_ops {
	const char *name;
	unsigned ghosts; /* how many it remembers, in quarters of what fits; 0: none */
	bool ring;	 /* it has a ring of lists */
	bool shadows;	 /* it chooses among order_shadows[], by their shadows */
	bool recalls;	 /* what it knows of a block is its count, epoch and last use */
	bool waits;	 /* its shadow's clock counts what the shadow does not hear of, too */
	void (*insert)(struct order *order, struct order_entry *entry);
	void (*touch)(struct order *order, struct order_entry *entry);
	void (*remove)(struct order *order, struct order_entry *entry);
	/* The first in line for which order_may() is true; NULL: there is none. It stays. */
	struct order_entry *(*victim)(struct order *order, const struct order_want *want);
	/* Of order_shadows[]: of two entries, that which is worth less goes, or else the older. */
	uint64_t (*worth)(const struct order *order, const struct order_entry *entry);
};

extern const struct order_ops order_lru;
extern const struct order_ops order_clock;
extern const struct order_ops order_s3fifo;
extern const struct order_ops order_lirs;
extern const struct order_ops order_lrfu;
extern const struct order_ops order_adaptive;
/* Parts of order_adaptive, and not of orders[]: as order_lru, but for the sizes of blocks; and by
 * when they are due. */
extern const struct order_ops order_weighed;
extern const struct order_ops order_due;

extern const struct order_ops *const order_shadows[NR_SHADOWS];

/* All orders; by name, or NULL. */
#define NR_ORDERS 6
extern const struct order_ops *const orders[NR_ORDERS];
const struct order_ops *order_by_name(const char *name);

/* Bytes of zeroed memory for an order over a memory of so many blocks; makes one in it. */
size_t order_bytes(const struct order_ops *ops, uint32_t nblocks);
struct order *order_init(void *memory, const struct order_ops *ops, uint32_t nblocks,
			 uint64_t npages);

/* A block came, was used, and is gone. */
void order_insert(struct order *order, struct order_entry *entry, uintptr_t key);
void order_touch(struct order *order, struct order_entry *entry);
void order_remove(struct order *order, struct order_entry *entry);

/* For a want: no other eviction has it. */
uint64_t order_ticket(struct order *order);
/* Who goes next; NULL: nobody who may. */
struct order_entry *order_victim(struct order *order, const struct order_want *want);

/* Hand all entries over to another, empty order. */
void order_move(struct order *from, struct order *to);

#endif
