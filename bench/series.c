/* SPDX-License-Identifier: MIT */
/*
 * A series of measurements. Pushing never fails visibly, so that a measuring loop has
 * nothing to check: what did not fit is remembered in error and looked at once, after
 * the run. Not thread-safe; each run has its own series.
 */
#include "series.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int series_reserve(struct series *s, size_t count)
{
	size_t room = s->room ? s->room : 16;
	double *value;

	while (room < count)
		room *= 2;
	if (room == s->room)
		return 0;
	value = realloc(s->value, room * sizeof(*value));
	if (!value)
		return s->error = -ENOMEM;
	s->value = value;
	s->room = room;
	return 0;
}

void series_push(struct series *s, double value)
{
	if (series_reserve(s, s->count + 1) == 0)
		s->value[s->count++] = value;
}

void series_append(struct series *s, const struct series *other)
{
	if (other->count == 0 || series_reserve(s, s->count + other->count))
		return;
	memcpy(s->value + s->count, other->value, other->count * sizeof(*other->value));
	s->count += other->count;
}

void series_fini(struct series *s)
{
	free(s->value);
	memset(s, 0, sizeof(*s));
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

double series_quantile(struct series *s, double q)
{
	double at, below;
	size_t i;

	if (s->count == 0)
		return 0;
	qsort(s->value, s->count, sizeof(*s->value), compare);
	at = q * (double)(s->count - 1);
	below = floor(at);
	i = (size_t)below;
	if (i + 1 >= s->count)
		return s->value[s->count - 1];
	return s->value[i] + (at - below) * (s->value[i + 1] - s->value[i]);
}
