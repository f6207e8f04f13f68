/* SPDX-License-Identifier: MIT */
/* A growing list of measurements, and what is said about it. */
#ifndef SERIES_H
#define SERIES_H

#include <stddef.h>

/* All zero is an empty series. */
struct series {
	double *value;
	size_t count;
	size_t room;
	int error; /* -ENOMEM: something could not be stored */
};

void series_push(struct series *s, double value);
void series_append(struct series *s, const struct series *other);
void series_fini(struct series *s);

/*
 * The value that a share q of the series does not exceed, interpolated; 0 of an empty one.
 * Sorts the series: its order of arrival is gone.
 */
double series_quantile(struct series *s, double q);

#endif
