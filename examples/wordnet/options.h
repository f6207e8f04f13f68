/* SPDX-License-Identifier: MIT */
/* What the user asked for. */
#ifndef WORDNET_OPTIONS_H
#define WORDNET_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options {
	const char *data;      /* folder of the database */
	const char *device;    /* part of its name, or NULL */
	const char *picture;   /* file, or NULL */
	uint64_t limit_bytes;  /* of device memory, or */
	double limit_fraction; /* of the structure, where this is not 0 */
	size_t queries;	       /* in each round */
	unsigned rounds;
	bool quick;
};

/**
 * options_parse() - read the command line
 *
 * Return: 0; 1: print nothing more and exit with *status.
 */
int options_parse(struct options *options, int argc, char **argv, int *status);

#endif /* WORDNET_OPTIONS_H */
