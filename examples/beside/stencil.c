/* SPDX-License-Identifier: MIT */
/*
 * A 2-D stencil on a field four times as large as the memory of the device: the height of the
 * geoid over the whole globe, EGM96 (Debian: proj-data), smoothed. By hand it would have to be cut
 * into tiles that fit; the version beside it takes as much device memory as it wants.
 */
#include <endian.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "beside.h"

#define FIELD "/usr/share/proj/egm96_15.gtx"
#define STEPS 6
#define SKIP  77

extern const char stencil_cl[];

struct field {
	uint32_t nrows;
	uint32_t ncols;
	float *now;  /* the points, */
	float *next; /* and room for as many */
	size_t bytes;
};

/* Four doubles, two numbers, the points: all big-endian. */
static void read_field(struct beside *b, struct field *field)
{
	FILE *file = fopen(FIELD, "rb");
	uint32_t word, size[2] = { 0, 0 };

	if (!file) {
		printf("%s is missing (Debian: apt-get install proj-data)\n", FIELD);
		exit(SKIP);
	}
	fseek(file, 4 * sizeof(double), SEEK_SET);
	beside_need(fread(size, sizeof(size), 1, file) == 1, "the field is cut short");
	field->nrows = be32toh(size[0]);
	field->ncols = be32toh(size[1]);
	beside_need(field->nrows < 10000 && field->ncols < 10000, "this is no such field");
	field->bytes = sizeof(float) * field->nrows * field->ncols;
	field->now = beside_alloc(b, field->bytes);
	field->next = beside_alloc(b, field->bytes);
	for (size_t i = 0; i < field->bytes / sizeof(float); i++) {
		beside_need(fread(&word, sizeof(word), 1, file) == 1, "the field is cut short");
		word = be32toh(word);
		memcpy(&field->now[i], &word, sizeof(word));
	}
	fclose(file);
}

/* The same by hand. The bytes copied. */
static size_t by_hand(struct beside *b, const struct field *field, const float *from, float *to)
{
	cl_mem buffers[2] = { beside_buffer(b, field->bytes, from),
			      beside_buffer(b, field->bytes, NULL) };

	for (int step = 0; step < STEPS; step++) {
		cl_mem swap = buffers[0];

		beside_run(b, "copied_smooth", field->nrows, 2, buffers, field->ncols);
		buffers[0] = buffers[1];
		buffers[1] = swap;
	}
	beside_read(b, buffers[0], field->bytes, to);
	clReleaseMemObject(buffers[0]);
	clReleaseMemObject(buffers[1]);
	return 2 * field->bytes;
}

static void smooth(struct beside *b, struct field *field)
{
	for (int step = 0; step < STEPS; step++) {
		float *swap = field->now;

		beside_launch(b, "smooth", field->nrows, 3,
			      (cl_ulong[]){ (uintptr_t)field->now, (uintptr_t)field->next,
					    field->ncols });
		field->now = field->next;
		field->next = swap;
	}
}

int main(void)
{
	float *original, *copy, worst = 0, highest = -INFINITY;
	struct field field;
	struct beside b;
	double start, middle;
	size_t copied;

	beside_start(&b);
	read_field(&b, &field);
	original = malloc(field.bytes);
	copy = malloc(field.bytes);
	beside_need(original && copy, "memory is exhausted");
	memcpy(original, field.now, field.bytes);
	beside_open(&b, stencil_cl, 2 * field.bytes / 4);
	start = beside_seconds();
	smooth(&b, &field);
	middle = beside_seconds();
	copied = by_hand(&b, &field, original, copy);
	beside_report(&b, middle - start, beside_seconds() - middle, copied);
	for (size_t i = 0; i < field.bytes / sizeof(float); i++) {
		worst = fmaxf(worst, fabsf(field.now[i] - copy[i]));
		highest = fmaxf(highest, field.now[i]);
	}
	printf("%u x %u points, the highest %.1f m over the ellipsoid, they differ by %.1e m\n",
	       field.nrows, field.ncols, (double)highest, (double)worst);
	beside_close(&b);
	free(original);
	free(copy);
	return worst > 1e-4f || highest < 50;
}
