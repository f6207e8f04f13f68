/* SPDX-License-Identifier: MIT */
/*
 * PageRank of WordNet's meanings. The graph is as a C program has it, structs and pointers, which
 * the kernel follows. For buffers it is turned into arrays first.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "beside.h"
#include "words.h"

#define STEPS 10

extern const char pagerank_cl[];

struct vertex {
	struct vertex **in; /* who points here */
	uint32_t nin;
	uint32_t nout;
	float rank[2];
};

static uint32_t keys[WORDS_MOST_MEANINGS]; /* ascending */
static uint32_t edges[WORDS_MOST_POINTERS][2];
static uint32_t nvertices, nedges;

static void add_vertex(void *priv, uint32_t key, uint32_t file)
{
	(void)priv;
	(void)file;
	beside_need(nvertices < WORDS_MOST_MEANINGS, "WordNet has grown");
	keys[nvertices++] = key;
}

static int by_key(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t find(uint32_t key)
{
	const uint32_t *at = bsearch(&key, keys, nvertices, sizeof(key), by_key);

	beside_need(at != NULL, "a pointer of WordNet leads nowhere");
	return (uint32_t)(at - keys);
}

static void add_edge(void *priv, uint32_t from, uint32_t to)
{
	(void)priv;
	beside_need(nedges < WORDS_MOST_POINTERS, "WordNet has grown");
	edges[nedges][0] = find(from);
	edges[nedges++][1] = find(to);
}

static struct vertex *build_graph(struct beside *b)
{
	struct vertex *vertices, **slots;

	words_meanings(add_vertex, NULL);
	words_pointers(add_edge, NULL);
	vertices = beside_alloc(b, nvertices * sizeof(*vertices));
	slots = beside_alloc(b, nedges * sizeof(struct vertex *));
	for (uint32_t i = 0; i < nedges; i++) {
		vertices[edges[i][0]].nout++;
		vertices[edges[i][1]].nin++;
	}
	for (uint32_t v = 0; v < nvertices; v++) {
		vertices[v].in = slots;
		slots += vertices[v].nin;
		vertices[v].nin = 0;
		vertices[v].rank[0] = 1.0f / (float)nvertices;
	}
	for (uint32_t i = 0; i < nedges; i++) {
		struct vertex *to = &vertices[edges[i][1]];

		to->in[to->nin++] = &vertices[edges[i][0]];
	}
	return vertices;
}

/* The same by hand, flattened first. The bytes copied. */
static size_t by_hand(struct beside *b, const struct vertex *vertices, float *rank)
{
	uint32_t *first = calloc(nvertices + 1, 4), *in = calloc(nedges, 4), n = 0;
	uint32_t *nout = calloc(nvertices, 4);
	size_t each = nvertices * sizeof(*rank);
	cl_mem buffers[5];

	beside_need(first && in && nout, "memory is exhausted");
	for (uint32_t v = 0; v < nvertices; v++) {
		first[v] = n;
		for (uint32_t i = 0; i < vertices[v].nin; i++)
			in[n++] = (uint32_t)(vertices[v].in[i] - vertices);
		nout[v] = vertices[v].nout;
		rank[v] = 1.0f / (float)nvertices;
	}
	first[nvertices] = n;
	buffers[0] = beside_buffer(b, each + 4, first);
	buffers[1] = beside_buffer(b, nedges * sizeof(*in), in);
	buffers[2] = beside_buffer(b, each, nout);
	buffers[3] = beside_buffer(b, each, rank);
	buffers[4] = beside_buffer(b, each, NULL);
	for (int step = 0; step < STEPS; step++) {
		cl_mem swap = buffers[3];

		beside_run(b, "copied_step", nvertices, 5, buffers, nvertices);
		buffers[3] = buffers[4];
		buffers[4] = swap;
	}
	beside_read(b, buffers[3], each, rank);
	for (int i = 0; i < 5; i++)
		clReleaseMemObject(buffers[i]);
	free(first);
	free(in);
	free(nout);
	return 4 * each + nedges * sizeof(*in);
}

int main(void)
{
	struct vertex *vertices;
	float *rank, worst = 0;
	double start, middle;
	struct beside b;
	size_t copied;

	beside_start(&b);
	vertices = build_graph(&b);
	beside_need((rank = calloc(nvertices, sizeof(*rank))) != NULL, "memory is exhausted");
	beside_open(&b, pagerank_cl, 8 << 20);
	start = beside_seconds();
	for (cl_ulong step = 0; step < STEPS; step++)
		beside_launch(&b, "rank_step", nvertices, 3,
			      (cl_ulong[]){ (uintptr_t)vertices, nvertices, step % 2 });
	middle = beside_seconds();
	copied = by_hand(&b, vertices, rank);
	beside_report(&b, middle - start, beside_seconds() - middle, copied);
	for (uint32_t v = 0; v < nvertices; v++)
		worst = fmaxf(worst, fabsf(vertices[v].rank[STEPS % 2] - rank[v]) / rank[v]);
	printf("%u meanings, %u pointers, ranks differ by %.1e\n", nvertices, nedges,
	       (double)worst);
	beside_close(&b);
	free(rank);
	return worst > 1e-4f;
}
