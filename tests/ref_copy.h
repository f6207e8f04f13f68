/* SPDX-License-Identifier: MIT */
/*
 * How the reference device copies: like a copy engine, past the caches where it is
 * much. memcpy() does so only far above 2 MiB, and then runs at nearly twice the speed.
 */
#ifndef REF_COPY_H
#define REF_COPY_H

#include <stddef.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

#define STREAM_BYTES ((size_t)64 << 10)

/* Both page aligned, whole pages. */
static inline void copy_pages(void *dst, const void *src, size_t len)
{
	const __m128i *from = src;
	__m128i *to = dst, *end = to + len / sizeof(*to);

	if (len < STREAM_BYTES) {
		memcpy(dst, src, len);
		return;
	}
	for (; to < end; to += 4, from += 4) {
		__m128i a = _mm_load_si128(from), b = _mm_load_si128(from + 1);
		__m128i c = _mm_load_si128(from + 2), d = _mm_load_si128(from + 3);

		_mm_stream_si128(to, a);
		_mm_stream_si128(to + 1, b);
		_mm_stream_si128(to + 2, c);
		_mm_stream_si128(to + 3, d);
	}
	_mm_sfence();
}
#else
static inline void copy_pages(void *dst, const void *src, size_t len)
{
	memcpy(dst, src, len);
}
#endif

#endif
