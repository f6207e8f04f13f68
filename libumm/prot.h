/* SPDX-License-Identifier: MIT */
/* Protection: what the kernel allows at an address now, against what entries given out allow. */
#ifndef PROT_H
#define PROT_H

#include "block.h"
#include "maps.h"

struct notifier_active;

/* A look at protections. Zeroed but for ctx it begins; one question for each mapping. */
struct prot {
	struct umm_ctx *ctx;
	struct maps_vma vma; /* the mapping looked at last, */
	int error;	     /* why nothing is known of the page looked at last; 0 */
	struct umm_span gap; /* and the gap */
	/* Of one block: pages of which entries allow more than the kernel does. */
	uint64_t narrowed[BITMAP_WORDS];
	struct notifier_active *active;
};

/* Elsewhere than in prot->vma: the rest of prot_find(). */
bool prot_find_other(struct prot *prot, uintptr_t addr);

/* Is something mapped at addr? Then prot->vma is the mapping; else it is empty. */
static inline bool prot_find(struct prot *prot, uintptr_t addr)
{
	return (addr >= prot->vma.start && addr < prot->vma.end) || prot_find_other(prot, addr);
}

/* The order of the pages of prot->vma, a hugetlb mapping. */
unsigned prot_huge_order(struct prot *prot);

/* Note if entries of page i allow more than prot->vma, which has it or is empty. Block locked. */
void prot_compare(struct prot *prot, struct block *block, unsigned i);
/* An entry of page i, of these UMM_ENTRY_ bits, is about to be given out. Block locked. */
static inline void prot_give(struct block *block, unsigned i, uint64_t entry)
{
	if (entry & UMM_ENTRY_VALID)
		bit_set(block->readable, i);
	if (entry & UMM_ENTRY_WRITE)
		bit_set(block->writable, i);
}

/*
 * After the last page of a block, which is locked: what was found makes snapshots stale from here
 * on. Then, with nothing locked: mirrors are told (PROTECTION_VMA), if there is something to tell.
 */
void prot_found(struct prot *prot, struct block *block);
void prot_tell(struct prot *prot, uintptr_t va);

/*
 * Compare all of start .. end, and tell. Asks the kernel only where somebody listens. No lock held;
 * not on a fault server.
 */
void prot_refresh(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
/* Mirrors were told to forget entries of start .. end, an interposer says. No lock held. */
void prot_forget(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

#endif
