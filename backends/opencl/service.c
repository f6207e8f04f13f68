/* SPDX-License-Identifier: MIT */
/*
 * A batch of faults becomes a sorted list of pages without duplicates, then of spans.
 * First what the core says about them is programmed. Pages that came otherwise (the
 * program prefetched or duplicated them) stay as they are, and all of their block is programmed
 * with them, so that they cost one fault for each block at most. One umm_migrate_spans()
 * brings the others, which are programmed then.
 *
 * More pages than the device has would evict each other, and what the same work-items
 * loaded before: only so many are brought as the caller says, for the work-items with the
 * lowest numbers, who are then the first to get on, and with what each missed first; the others
 * wait: what they missed is kept, sorted by work-item, so that it can be brought before they run
 * again.
 *
 * A migration evicts neither the blocks that it fills nor what came after it began. Where
 * that leaves no victim, because a small device holds nothing but pages of the same
 * blocks, and so nothing came, room is made first and then it is tried again.
 *
 * Pages that are only read are duplicated: the CPU and other devices go on reading theirs, and
 * when they have to go nothing is copied back. A store takes a page for itself. In a block
 * where that happened to a page that was a copy, which was copied twice then, pages are moved
 * from the start, but for those that others read too.
 *
 * What else to bring, into free memory, is prefetch.c's to say.
 *
 * No locks of its own: the caller holds umm_opencl.launch.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mapping.h"
#include "prefetch.h"
#include "report.h"
#include "service.h"
#include "share.h"

#define PAGE_MASK     (~(uint64_t)(UMM_PAGE_SIZE - 1))
#define ADDRESS_END   (UINT64_C(1) << TABLE_ADDRESS_BITS)
#define TOUCH_BATCH   64
#define LOOK_BATCH    512  /* pages looked up at a time, while others wait */
#define MANY	      1024 /* faults to sort by digits */
#define DIGIT_BITS    11
#define WRITTEN_SLOTS 4096
#define LEAST_RUNS    8	 /* so many runs of pages, each of which would take a command, */
#define LEAST_MAPPED  64 /* or so many pages are worth mapping the device's memory for */

/* How the page of a fault is to come; set once its order of arrival is no longer needed. */
#define FAULT_COPY	(UINT32_C(1) << 29)
#define FAULT_MOVE	(UINT32_C(1) << 30)
#define FAULT_ELSEWHERE (UINT32_C(1) << 31)
#define PROGRAM_GAP	(UINT64_C(16) * UMM_PAGE_SIZE) /* cheaper to ask for than to ask twice */

struct service {
	const struct service_want *want; /* of the round being served */
	struct umm_span *spans;		 /* as many as there can be faults */
	struct umm_span *ahead;
	struct fault *rest; /* what was cut off, of rest_at .. nrest */
	uint32_t rest_at, nrest;
	struct fault *coming;		 /* what comes ahead */
	struct fault *sorted;		 /* halfway */
	bool *served;			 /* of the faults looked at last: the page is there */
	uint32_t written[WRITTEN_SLOTS]; /* blocks, + 1, whose copies had to become single */
};

int service_create(struct umm_opencl *ocl)
{
	struct service *service = calloc(1, sizeof(*service));

	if (!service)
		return -ENOMEM;
	ocl->service = service;
	service->spans = calloc(ocl->fault_entries, sizeof(*service->spans));
	service->ahead = calloc(ocl->fault_entries, sizeof(*service->ahead));
	service->rest = calloc(ocl->fault_entries, sizeof(*service->rest));
	service->served = calloc(ocl->fault_entries, sizeof(*service->served));
	service->coming = calloc(ocl->fault_entries, sizeof(*service->coming));
	service->sorted = calloc(ocl->fault_entries, sizeof(*service->sorted));
	return service->spans && service->ahead && service->rest && service->coming &&
			       service->sorted && service->served ?
		       0 :
		       -ENOMEM;
}

void service_destroy(struct umm_opencl *ocl)
{
	if (!ocl->service)
		return;
	free(ocl->service->spans);
	free(ocl->service->ahead);
	free(ocl->service->rest);
	free(ocl->service->served);
	free(ocl->service->coming);
	free(ocl->service->sorted);
	free(ocl->service);
}

/* By work-item, and in the order in which each missed them. */
static int by_item(const void *a, const void *b)
{
	const struct fault *x = a, *y = b;

	if (x->item != y->item)
		return (x->item > y->item) - (x->item < y->item);
	return (x->flags > y->flags) - (x->flags < y->flags);
}

static int by_page(const void *a, const void *b)
{
	uint64_t x = ((const struct fault *)a)->addr;
	uint64_t y = ((const struct fault *)b)->addr;

	return (x > y) - (x < y);
}

/* Work-items that run in order, over memory in order, miss pages in order. */
static void sort(struct fault *faults, uint32_t count, int (*order)(const void *, const void *))
{
	for (uint32_t i = 1; i < count; i++)
		if (order(&faults[i - 1], &faults[i]) > 0) {
			qsort(faults, count, sizeof(*faults), order);
			return;
		}
}

static int blame(struct service_outcome *outcome, const struct fault *fault, int err)
{
	outcome->blame = *fault;
	outcome->blame_valid = true;
	return err;
}

/* Faults that no page can cure. */
static int find_mistakes(const struct fault *faults, uint32_t count,
			 struct service_outcome *outcome)
{
	for (uint32_t i = 0; i < count; i++) {
		if (faults[i].flags & FAULT_POOLS) {
			report(UMM_LOG_ERROR, "the kernel was built for another device: build it "
					      "with umm_opencl_build() for this one");
			return -EINVAL;
		}
		if (faults[i].flags & FAULT_ALIGN)
			return blame(outcome, &faults[i], -EINVAL);
		if (faults[i].addr >= ADDRESS_END)
			return blame(outcome, &faults[i], -EFAULT);
	}
	return 0;
}

/* Their order of arrival, above the flags: two entries of a page may only differ there. */
static void number(struct fault *faults, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		faults[i].flags |= i << FAULT_BITS;
}

/* Two faults on a page: the first, and a store if either was. */
static struct fault both(struct fault a, struct fault b)
{
	struct fault first = by_item(&a, &b) < 0 ? a : b;

	first.flags |= (a.flags | b.flags) & FAULT_WRITE;
	return first;
}

static unsigned digit(const struct fault *fault, uint64_t first, unsigned shift)
{
	uint64_t page = (fault->addr >> UMM_PAGE_SHIFT) - first;

	return (unsigned)(page >> shift) & ((1u << DIGIT_BITS) - 1);
}

/* By DIGIT_BITS of (page - first), `shift` bits up; equals stay in their order. */
static void sort_digit(const struct fault *from, uint32_t count, uint64_t first, unsigned shift,
		       struct fault *to)
{
	uint32_t at[1 << DIGIT_BITS] = { 0 }, sum = 0, n;

	for (uint32_t i = 0; i < count; i++)
		at[digit(&from[i], first, shift)]++;
	for (unsigned d = 0; d < 1 << DIGIT_BITS; d++) {
		n = at[d];
		at[d] = sum;
		sum += n;
	}
	for (uint32_t i = 0; i < count; i++)
		to[at[digit(&from[i], first, shift)]++] = from[i];
}

/*
 * By page. Threads that run work-items at the same time report in turns: many sequences are woven
 * into each other, which comparisons take long to undo.
 */
static void sort_pages(struct umm_opencl *ocl, struct fault *faults, uint32_t count)
{
	struct fault *from = faults, *to = ocl->service->sorted, *swap;
	uint64_t first = UINT64_MAX, last = 0, page;

	if (count < MANY) {
		sort(faults, count, by_page);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		page = faults[i].addr >> UMM_PAGE_SHIFT;
		first = page < first ? page : first;
		last = page > last ? page : last;
	}
	for (unsigned shift = 0; (last - first) >> shift; shift += DIGIT_BITS) {
		sort_digit(from, count, first, shift, to);
		swap = from;
		from = to;
		to = swap;
	}
	if (from != faults)
		memcpy(faults, from, count * sizeof(*faults));
}

/* Sort, and keep one fault for each page. The new count. */
static uint32_t merge(struct umm_opencl *ocl, struct fault *faults, uint32_t count)
{
	uint32_t n = 0;

	sort_pages(ocl, faults, count);
	for (uint32_t i = 0; i < count; i++) {
		if (n && !((faults[n - 1].addr ^ faults[i].addr) & PAGE_MASK))
			faults[n - 1] = both(faults[n - 1], faults[i]);
		else
			faults[n++] = faults[i];
	}
	return n;
}

/* Runs of pages as spans, of faults that have one of these flags; 0: of all. Their number. */
static size_t coalesce(const struct fault *faults, uint32_t count, uint32_t flags,
		       struct umm_span *spans)
{
	size_t n = 0;
	uintptr_t page;

	for (uint32_t i = 0; i < count; i++) {
		if (flags && !(faults[i].flags & flags))
			continue;
		page = faults[i].addr & PAGE_MASK;
		if (n && spans[n - 1].start + spans[n - 1].len == page)
			spans[n - 1].len += UMM_PAGE_SIZE;
		else
			spans[n++] = (struct umm_span){ .start = page, .len = UMM_PAGE_SIZE };
	}
	return n;
}

static struct umm_migrate_request request_of(struct umm_opencl *ocl, const struct umm_span *spans,
					     size_t nspans, uint64_t flags)
{
	return (struct umm_migrate_request){
		.size = sizeof(struct umm_migrate_request),
		.flags = flags,
		.spans = spans,
		.nspans = nspans,
		.dst = ocl->mem,
		.cause = UMM_CAUSE_DEVICE_FAULT,
	};
}

/* Pages moved; what pages only refuse is 0: looking at each page tells why. */
static long migrate(struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans,
		    uint64_t flags)
{
	struct umm_migrate_request request = request_of(ocl, spans, nspans, flags);
	long moved = nspans ? umm_migrate_spans(ocl->ctx, &request, NULL) : 0;

	return moved == -EFAULT || moved == -ENOSPC || moved == -ENOENT ? 0 : moved;
}

/* The same by two threads. */
static long migrate_shared(struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans,
			   uint64_t flags)
{
	struct umm_migrate_request request = request_of(ocl, spans, nspans, flags);

	share_begin(ocl, &request);
	return share_finish(ocl);
}

static uint32_t entry_get(struct umm_opencl *ocl, uintptr_t addr)
{
	uint32_t entry;

	pthread_mutex_lock(&ocl->update);
	entry = table_get(&ocl->table, addr);
	pthread_mutex_unlock(&ocl->update);
	return entry;
}

static bool suffices(const struct fault *fault, uint32_t entry)
{
	uint32_t wanted = TABLE_VALID | (fault->flags & FAULT_WRITE ? TABLE_WRITE : 0);

	return (entry & wanted) == wanted;
}

/* Which faults have their page in the table, as they want it: service->served[]. Their number. */
static uint32_t look(struct umm_opencl *ocl, const struct fault *faults, uint32_t count)
{
	uint32_t n = 0, end;

	for (uint32_t i = 0; i < count; i = end) {
		end = count - i < LOOK_BATCH ? count : i + LOOK_BATCH;
		pthread_mutex_lock(&ocl->update);
		for (uint32_t k = i; k < end; k++) {
			ocl->service->served[k] =
				suffices(&faults[k], table_get(&ocl->table, faults[k].addr));
			n += ocl->service->served[k];
		}
		pthread_mutex_unlock(&ocl->update);
	}
	return n;
}

/* Pages of one block. 0 too where they change too often to tell: they fault again. */
static int program_pages(struct umm_opencl *ocl, uintptr_t start, uintptr_t end)
{
	int ret = start < end ? mirror_program(ocl, start, end) : 0;

	return ret == -EAGAIN ? 0 : ret;
}

/* The pages of sorted spans, and what lies between neighbours; a block at a time. */
int service_program(struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans)
{
	uintptr_t start = 0, end = 0, at, next, span_end;
	int ret = 0;

	for (size_t i = 0; i < nspans; i++) {
		span_end = spans[i].start + spans[i].len;
		for (at = spans[i].start; at < span_end && !ret; at = next) {
			next = (at | (UMM_BLOCK_SIZE - 1)) + 1;
			if (next > span_end)
				next = span_end;
			if (end && at - end <= PROGRAM_GAP &&
			    at >> UMM_BLOCK_SHIFT == start >> UMM_BLOCK_SHIFT) {
				end = next;
				continue;
			}
			ret = program_pages(ocl, start, end);
			start = at;
			end = next;
		}
	}
	return ret ? ret : program_pages(ocl, start, end);
}

/* A page that did not come. 0: it may come yet. */
static int examine(struct umm_opencl *ocl, const struct fault *fault, uint32_t entry, bool thorough)
{
	struct umm_page_info info = { .state = UMM_PAGE_UNMANAGED };

	if (umm_query(ocl->ctx, fault->addr & PAGE_MASK, 1, &info) ||
	    info.state == UMM_PAGE_UNMANAGED || info.state == UMM_PAGE_POISONED)
		return -EFAULT;
	/* It does not migrate, and the device sees its own memory only. */
	if (info.state == UMM_PAGE_MIRRORED)
		return -EFAULT;
	/* Here, but not writable: it is a copy that can become single, or read-only memory. */
	if (entry || thorough)
		return mirror_probe(ocl, fault->addr & PAGE_MASK, fault->flags & FAULT_WRITE);
	return 0;
}

/* Count the pages that are in the table now, and ask what is wrong with the others. */
static int check(struct umm_opencl *ocl, const struct fault *faults, uint32_t count,
		 struct service_outcome *outcome)
{
	int ret;

	outcome->nserved += look(ocl, faults, count);
	for (uint32_t i = 0; i < count; i++) {
		if (ocl->service->served[i])
			continue;
		ret = examine(ocl, &faults[i], entry_get(ocl, faults[i].addr),
			      ocl->service->want->thorough);
		if (ret)
			return blame(outcome, &faults[i], ret);
	}
	return 0;
}

/*
 * Pages that are on the device already only have to be programmed, and where there is one
 * there may be more in its block. The number of the others; the faults are sorted.
 */
static int refresh(struct umm_opencl *ocl, struct fault *faults, uint32_t *count,
		   struct service_outcome *outcome)
{
	size_t nspans = coalesce(faults, *count, 0, ocl->service->spans);
	int ret = service_program(ocl, ocl->service->spans, nspans);
	uintptr_t block, done = 0;
	uint32_t n = 0;

	look(ocl, faults, *count);
	for (uint32_t i = 0; i < *count && !ret; i++) {
		if (!ocl->service->served[i]) {
			faults[n++] = faults[i];
			continue;
		}
		block = faults[i].addr & ~(UMM_BLOCK_SIZE - 1);
		if (block != done)
			ret = program_pages(ocl, block, block + UMM_BLOCK_SIZE);
		/* The block has a mapping that is no memory: its pages come one by one. */
		if (ret == -EINVAL)
			ret = 0;
		done = block;
	}
	if (ret)
		return ret;
	outcome->nserved = *count - n;
	*count = n;
	return 0;
}

static enum umm_page_state state_of(struct umm_opencl *ocl, const struct fault *fault,
				    struct umm_devmem **mem)
{
	struct umm_page_info info = { .state = UMM_PAGE_UNMANAGED };

	umm_query(ocl->ctx, fault->addr & PAGE_MASK, 1, &info);
	*mem = info.mem;
	return info.state;
}

/* On another device, or in a window of this one: only there, so that it cannot be duplicated. */
static bool is_elsewhere(struct umm_opencl *ocl, const struct fault *fault)
{
	struct umm_devmem *mem;

	return state_of(ocl, fault, &mem) == UMM_PAGE_DEVICE && mem != ocl->mem;
}

/* Others read it too. */
static bool is_shared(struct umm_opencl *ocl, const struct fault *fault)
{
	struct umm_devmem *mem;

	return state_of(ocl, fault, &mem) == UMM_PAGE_DUPLICATED;
}

/* Many pages, room for all of them, and no kernel that holds the CPUs while it waits? */
static bool may_share(struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans,
		      const struct service_outcome *outcome)
{
	return !outcome->full && !ocl->service->want->running && share_pays(ocl, spans, nspans);
}

/* Bring the pages of faults with one of these flags, and what may be wanted next. */
static int bring(struct umm_opencl *ocl, const struct fault *faults, uint32_t count, uint32_t flags,
		 struct service_outcome *outcome)
{
	struct service *service = ocl->service;
	size_t nspans = coalesce(faults, count, flags, service->spans), nahead = 0;
	uint64_t how = flags & FAULT_MOVE ? 0 : UMM_MIGRATE_DUPLICATE;
	long moved, ahead = 0;
	int ret;

	if (!nspans)
		return 0;
	if (service->want->hold || service->want->running)
		how |= UMM_MIGRATE_NO_EVICT;
	if (!service->want->hold && !service->want->step && !outcome->full)
		nahead = prefetch_plan(ocl, service->spans, nspans, service->ahead,
				       ocl->fault_entries);
	if (nspans >= LEAST_RUNS || count >= LEAST_MAPPED)
		mapping_begin(ocl);
	if (may_share(ocl, service->spans, nspans, outcome))
		moved = migrate_shared(ocl, service->spans, nspans, how);
	else
		moved = migrate(ocl, service->spans, nspans, how);
	if (moved >= 0)
		ahead = migrate(ocl, service->ahead, nahead,
				how | UMM_MIGRATE_NO_EVICT | UMM_MIGRATE_AHEAD);
	if (moved < 0 || ahead < 0)
		return (int)(moved < 0 ? moved : ahead);
	outcome->nmigrated += (uint64_t)(moved + ahead);
	outcome->nreadahead += (uint64_t)ahead;
	ret = service_program(ocl, service->spans, nspans);
	if (!ret && ahead)
		ret = service_program(ocl, service->ahead, nahead);
	return ret;
}

/* Pages to be read that others have: they go home, to be duplicated from there. */
static int bring_others(struct umm_opencl *ocl, struct fault *faults, uint32_t count,
			struct service_outcome *outcome)
{
	struct umm_migrate_request home = { .size = sizeof(home),
					    .spans = ocl->service->spans,
					    .cause = UMM_CAUSE_DEVICE_FAULT };
	long moved;

	look(ocl, faults, count);
	for (uint32_t i = 0; i < count; i++) {
		faults[i].flags &= ~FAULT_ELSEWHERE;
		if (faults[i].flags & FAULT_COPY && !ocl->service->served[i] &&
		    is_elsewhere(ocl, &faults[i]))
			faults[i].flags |= FAULT_ELSEWHERE;
	}
	home.nspans = coalesce(faults, count, FAULT_ELSEWHERE, ocl->service->spans);
	if (!home.nspans)
		return 0;
	moved = umm_migrate_spans(ocl->ctx, &home, NULL);
	if (moved < 0 && moved != -EFAULT)
		return (int)moved;
	return bring(ocl, faults, count, FAULT_ELSEWHERE, outcome);
}

/* Pages that are only read are duplicated, unless the device has turned out to write them. */
static void choose(struct umm_opencl *ocl, struct fault *faults, uint32_t count)
{
	uint32_t block, *slot;

	for (uint32_t i = 0; i < count; i++) {
		block = (uint32_t)(faults[i].addr >> UMM_BLOCK_SHIFT) + 1;
		slot = &ocl->service->written[block % WRITTEN_SLOTS];
		if (faults[i].flags & FAULT_WRITE && entry_get(ocl, faults[i].addr))
			*slot = block;
		faults[i].flags &= ~(FAULT_COPY | FAULT_MOVE);
		if (!(faults[i].flags & FAULT_WRITE) &&
		    (*slot != block || is_shared(ocl, &faults[i])))
			faults[i].flags |= FAULT_COPY;
		else
			faults[i].flags |= FAULT_MOVE;
	}
}

static bool any_poisoned(struct umm_opencl *ocl, const struct fault *faults, uint32_t count)
{
	struct umm_devmem *mem;

	for (uint32_t i = 0; i < count; i++)
		if (state_of(ocl, &faults[i], &mem) == UMM_PAGE_POISONED)
			return true;
	return false;
}

/* That another device was lost with its pages is no failure of ours: who misses them is told. */
static int bring_all(struct umm_opencl *ocl, struct fault *faults, uint32_t count,
		     struct service_outcome *outcome)
{
	int ret;

	outcome->full |= umm_devmem_nfree(ocl->mem) < count;
	choose(ocl, faults, count);
	ret = bring(ocl, faults, count, FAULT_MOVE, outcome);
	if (!ret)
		ret = bring(ocl, faults, count, FAULT_COPY, outcome);
	if (!ret)
		ret = bring_others(ocl, faults, count, outcome);
	return ret == -EIO && any_poisoned(ocl, faults, count) ? 0 : ret;
}

static int serve(struct umm_opencl *ocl, struct fault *faults, uint32_t count,
		 struct service_outcome *outcome)
{
	int ret = bring_all(ocl, faults, count, outcome);

	return ret ? ret : check(ocl, faults, count, outcome);
}

/* How many faults to take of some sorted by work-item: as many whole ones have, most at most. */
static uint32_t whole_items(const struct fault *faults, uint32_t count, uint32_t most)
{
	uint32_t n = most;

	if (count <= most)
		return count;
	while (n && faults[n - 1].item == faults[n].item)
		n--;
	return n ? n : most;
}

/* Only those of the work-items with the lowest numbers. The new count. */
static uint32_t cut(struct umm_opencl *ocl, struct fault *faults, uint32_t count,
		    struct service_outcome *outcome)
{
	uint32_t most = ocl->service->want->most;

	if (count <= most)
		return count;
	sort(faults, count, by_item);
	most = whole_items(faults, count, most);
	outcome->cut = true;
	outcome->last_item = faults[most - 1].item;
	ocl->service->rest_at = 0;
	ocl->service->nrest = count - most;
	memcpy(ocl->service->rest, faults + most, (count - most) * sizeof(*faults));
	return merge(ocl, faults, most);
}

void service_drop_rest(struct umm_opencl *ocl)
{
	ocl->service->nrest = ocl->service->rest_at = 0;
}

/* Most have come ahead: they are only programmed. Leaves the others. 0 or an error. */
static int drop_served(struct umm_opencl *ocl, struct fault *faults, uint32_t *count)
{
	size_t nspans = coalesce(faults, *count, 0, ocl->service->spans);
	int ret = service_program(ocl, ocl->service->spans, nspans);
	uint32_t n = 0;

	look(ocl, faults, *count);
	for (uint32_t i = 0; i < *count && !ret; i++)
		if (!ocl->service->served[i])
			faults[n++] = faults[i];
	*count = n;
	return ret;
}

int service_rest(struct umm_opencl *ocl, const struct service_want *want,
		 struct service_outcome *outcome)
{
	struct service *service = ocl->service;
	struct fault *faults = service->rest + service->rest_at;
	uint32_t count = service->nrest - service->rest_at;
	int ret;

	memset(outcome, 0, sizeof(*outcome));
	service->want = want;
	outcome->cut = count > want->most;
	count = whole_items(faults, count, want->most);
	if (!count)
		return 0;
	service->rest_at += count;
	outcome->last_item = faults[count - 1].item;
	count = merge(ocl, faults, count);
	outcome->npages = count;
	ret = want->step ? drop_served(ocl, faults, &count) : 0;
	return ret || !count ? ret : bring_all(ocl, faults, count, outcome);
}

/* Their pages begin to come, those with one of these flags. The number of spans. */
static size_t start_bringing(struct umm_opencl *ocl, uint32_t count, uint32_t flags,
			     struct umm_span *spans)
{
	size_t nspans = coalesce(ocl->service->coming, count, flags, spans);
	uint64_t how = flags & FAULT_MOVE ? 0 : UMM_MIGRATE_DUPLICATE;
	struct umm_migrate_request request =
		request_of(ocl, spans, nspans, how | UMM_MIGRATE_NO_EVICT);

	if (nspans)
		share_begin(ocl, &request);
	return nspans;
}

void service_ahead_begin(struct umm_opencl *ocl, uint32_t most)
{
	struct service *service = ocl->service;
	uint32_t count = service->nrest - service->rest_at;
	struct fault *faults = service->coming;
	size_t nspans;

	count = whole_items(service->rest + service->rest_at, count, most);
	if (!count)
		return;
	if (umm_devmem_nfree(ocl->mem) < count)
		umm_devmem_evict(ocl->mem, count);
	memcpy(faults, service->rest + service->rest_at, count * sizeof(*faults));
	count = merge(ocl, faults, count);
	choose(ocl, faults, count);
	nspans = start_bringing(ocl, count, FAULT_MOVE, service->spans);
	start_bringing(ocl, count, FAULT_COPY, service->spans + nspans);
}

uint64_t service_ahead_end(struct umm_opencl *ocl)
{
	/* What is wrong with pages is found out when they are missed, or brought for good. */
	long moved = share_finish(ocl);

	return moved > 0 ? (uint64_t)moved : 0;
}

int service_run(struct umm_opencl *ocl, const struct round_outcome *round,
		const struct service_want *want, struct service_outcome *outcome)
{
	struct fault *faults = round->faults;
	uint32_t count = round->nfaults;
	int ret;

	memset(outcome, 0, sizeof(*outcome));
	ocl->service->want = want;
	if (!want->step)
		service_drop_rest(ocl);
	ret = find_mistakes(faults, count, outcome);
	if (ret)
		return ret;
	number(faults, count);
	count = merge(ocl, faults, count);
	outcome->npages = count;
	ret = refresh(ocl, faults, &count, outcome);
	if (ret || !count)
		return ret;
	count = cut(ocl, faults, count, outcome);
	ret = serve(ocl, faults, count, outcome);
	if (ret || outcome->nserved || !outcome->full || want->hold ||
	    umm_devmem_evict(ocl->mem, count))
		return ret;
	return serve(ocl, faults, count, outcome);
}

/* Faults that are left, as they were reported; those whose page has an entry come first. */
static uint32_t sort_out(struct umm_opencl *ocl, struct fault *faults, uint32_t count,
			 uint32_t *nthere)
{
	struct fault fault;
	uint32_t n = 0, entry;

	*nthere = 0;
	look(ocl, faults, count);
	for (uint32_t i = 0; i < count; i++) {
		if (ocl->service->served[i])
			continue;
		entry = entry_get(ocl, faults[i].addr);
		fault = faults[i];
		fault.flags &= (UINT32_C(1) << FAULT_BITS) - 1;
		faults[n] = fault;
		if (entry) {
			faults[n] = faults[*nthere];
			faults[(*nthere)++] = fault;
		}
		n++;
	}
	return n;
}

int service_attend(struct umm_opencl *ocl, struct fault *faults, uint32_t *count, uint32_t *nleft,
		   struct service_outcome *outcome)
{
	static const struct service_want want = { .running = true };
	uint32_t nthere = 0, npages;
	int ret = 0;

	memset(outcome, 0, sizeof(*outcome));
	*nleft = *count;
	ocl->service->want = &want;
	if (find_mistakes(faults, *count, outcome))
		return 0;
	*count = npages = merge(ocl, faults, *count);
	ret = refresh(ocl, faults, count, outcome);
	*count = sort_out(ocl, faults, *count, &nthere);
	outcome->full = umm_devmem_nfree(ocl->mem) < *count - nthere;
	if (!ret && !outcome->full) {
		sort(faults + nthere, *count - nthere, by_page);
		ret = bring_all(ocl, faults + nthere, *count - nthere, outcome);
		*count = sort_out(ocl, faults, *count, &nthere);
	}
	*nleft = *count - nthere;
	outcome->nserved = npages - *count;
	return ret;
}

/* Blocks of leaves that the last round used, from *leaf on. The number, 0 at the end. */
static unsigned used_blocks(struct umm_opencl *ocl, uint32_t *leaf, uint32_t *blocks)
{
	unsigned n = 0;

	pthread_mutex_lock(&ocl->update);
	for (; *leaf < ocl->nused && *leaf < ocl->table.nleaves && n < TOUCH_BATCH; ++*leaf)
		if (ocl->used_host[*leaf] == ocl->epoch &&
		    ocl->table.info[*leaf].block != TABLE_NONE)
			blocks[n++] = ocl->table.info[*leaf].block;
	pthread_mutex_unlock(&ocl->update);
	return n;
}

void service_touch(struct umm_opencl *ocl)
{
	uint32_t blocks[TOUCH_BATCH];
	uint32_t leaf = 0;
	unsigned n;

	while ((n = used_blocks(ocl, &leaf, blocks)) > 0)
		while (n--)
			umm_devmem_touch(ocl->mem, (uintptr_t)blocks[n] << UMM_BLOCK_SHIFT,
					 UMM_BLOCK_SIZE);
}
