/* SPDX-License-Identifier: MIT */
/*
 * Streams: whoever goes through memory in equal steps, forwards or backwards, is recognised by
 * four misses of one thread that are equally far apart, and gets the next pages of his way. As long
 * as he arrives where he was expected, what is ahead of him doubles, up to `most`. INTERLEAVED
 * ways that a thread goes by turns are told apart: every second miss is compared, every third, and
 * every fourth.
 *
 * What is to be ahead of somebody who takes every page ends where a block ends, as soon as it is
 * long enough: blocks come whole, in huge pages. So does the block in which he misses a page
 * though that much is to be ahead of him.
 */
#include "policy/ahead.h"

#include <string.h>

#define INTERLEAVED 4  /* AHEAD_MISSES = 3 * this + 1 */
#define FIRST	    4  /* pages ahead of somebody who has just been recognised */
#define WHOLE	    64 /* as many, and blocks are filled up */

/* Steps from a to b, both on somebody's way; negative: he would have to go back. */
static int64_t steps(const struct ahead_stream *stream, uint64_t a, uint64_t b)
{
	return (int64_t)(b - a) / stream->stride;
}

/* Is it where he is expected: on his way, not further than the step behind what was planned? */
static bool expected(const struct ahead_stream *stream, uint64_t page)
{
	int64_t n;

	if (!stream->stride || (int64_t)(page - stream->at) % stream->stride)
		return false;
	n = steps(stream, stream->at, page);
	return n >= 0 && n <= steps(stream, stream->at, stream->end) + 1;
}

static struct ahead_stream *stream_find(struct ahead *ahead, uint64_t page)
{
	for (unsigned i = 0; i < AHEAD_STREAMS; i++)
		if (expected(&ahead->streams[i], page))
			return &ahead->streams[i];
	return NULL;
}

static struct ahead_stream *stream_oldest(struct ahead *ahead)
{
	struct ahead_stream *oldest = &ahead->streams[0];

	for (unsigned i = 1; i < AHEAD_STREAMS; i++)
		if (ahead->streams[i].seen < oldest->seen)
			oldest = &ahead->streams[i];
	return oldest;
}

/* Note a miss; the stride of the way that it is on, or 0. */
static int64_t lane_note(struct ahead_lane *lane, uint64_t page)
{
	const uint64_t *p = lane->page;
	int64_t stride = 0;

	if (p[0] == page)
		return 0;
	memmove(&lane->page[1], lane->page, sizeof(lane->page) - sizeof(lane->page[0]));
	lane->page[0] = page;
	for (size_t k = 1; k <= INTERLEAVED && !stride; k++) {
		stride = (int64_t)(p[0] - p[k]);
		if (!p[3 * k] || p[k] - p[2 * k] != (uint64_t)stride ||
		    p[2 * k] - p[3 * k] != (uint64_t)stride)
			stride = 0;
	}
	return stride;
}

/* Where what is ahead of him ends, once there are so many pages of it. */
static uint64_t window_end(const struct ahead_stream *stream)
{
	uint64_t end = stream->at + (uint64_t)(stream->stride * (int64_t)stream->window);

	if (stream->window < WHOLE)
		return end;
	if (stream->stride == 1)
		return end | (AHEAD_BLOCK - 1);
	return stream->stride == -1 ? end & ~(uint64_t)(AHEAD_BLOCK - 1) : end;
}

/* Pages of his way between what was planned and what is planned now. */
static void extend(struct ahead_stream *stream, struct ahead_plan *plan)
{
	uint64_t end = window_end(stream);
	int64_t n = steps(stream, stream->end, end);

	if (n <= 0)
		return;
	plan->after = (struct ahead_pages){ stream->end + (uint64_t)stream->stride, stream->stride,
					    (uint32_t)n };
	stream->end = end;
}

/* How many pages come with the one that he missed. */
static uint32_t with_most(const struct ahead_stream *stream, uint64_t page)
{
	uint32_t i = (uint32_t)(page % AHEAD_BLOCK);

	/* He is faster than what comes behind: the rest, or the block is no huge page again. */
	if (stream->window >= AHEAD_BLOCK && stream->stride == 1)
		return AHEAD_BLOCK - 1 - i;
	if (stream->window >= AHEAD_BLOCK && stream->stride == -1)
		return i;
	return stream->window < AHEAD_WITH ? stream->window : AHEAD_WITH;
}

/* What is to be ahead of him, now that he is there. */
static void stream_advance(struct ahead *ahead, struct ahead_stream *stream, uint64_t page,
			   struct ahead_plan *plan)
{
	int64_t left = steps(stream, page, stream->end);

	stream->at = page;
	if (left < 0)
		stream->end = page;
	if (left < stream->window / 2) {
		stream->window =
			stream->window * 2 < ahead->most ? stream->window * 2 : ahead->most;
		extend(stream, plan);
	}
}

static void stream_go_on(struct ahead *ahead, struct ahead_stream *stream, uint64_t page,
			 struct ahead_plan *plan)
{
	stream->seen = ++ahead->clock;
	/* Else he comes again, as one does who serves his own faults. */
	if (page != stream->at)
		stream_advance(ahead, stream, page, plan);
	plan->with = (struct ahead_pages){ page + (uint64_t)stream->stride, stream->stride,
					   with_most(stream, page) };
}

static void stream_begin(struct ahead *ahead, uint64_t page, int64_t stride,
			 struct ahead_plan *plan)
{
	struct ahead_stream *stream = stream_oldest(ahead);

	*stream = (struct ahead_stream){
		.at = page,
		.end = page,
		.stride = stride,
		.window = FIRST < ahead->most ? FIRST : ahead->most,
		.seen = ++ahead->clock,
	};
	extend(stream, plan);
	plan->with = plan->after;
}

static void stream_miss(struct ahead *ahead, const struct ahead_miss *miss, struct ahead_plan *plan)
{
	struct ahead_stream *stream = stream_find(ahead, miss->page);
	int64_t stride;

	if (stream) {
		stream_go_on(ahead, stream, miss->page, plan);
		return;
	}
	stride = lane_note(&ahead->lanes[miss->thread % AHEAD_LANES], miss->page);
	if (stride)
		stream_begin(ahead, miss->page, stride, plan);
}

const struct ahead_ops ahead_stream = {
	.name = "stream",
	.miss = stream_miss,
};
