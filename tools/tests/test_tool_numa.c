/* SPDX-License-Identifier: MIT */
/*
 * Reading memory nodes, from a directory that looks like sysfs: two nodes with
 * CPUs, a memory-only node, and a gap in the numbering.
 */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "numa.h"

static char root[64];
static struct numa_node nodes[NUMA_NODES];

static void write_file(const char *name, const char *text)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void make_node(unsigned id, unsigned total_kib, const char *cpus, const char *distances)
{
	char name[128], text[256];

	snprintf(name, sizeof(name), "%s/node%u", root, id);
	assert_int_equal(mkdir(name, 0700), 0);
	snprintf(name, sizeof(name), "node%u/meminfo", id);
	snprintf(text, sizeof(text),
		 "Node %u MemTotal:       %u kB\nNode %u MemFree:        %u kB\n", id, total_kib,
		 id, total_kib / 4);
	write_file(name, text);
	snprintf(name, sizeof(name), "node%u/cpulist", id);
	write_file(name, cpus);
	snprintf(name, sizeof(name), "node%u/distance", id);
	write_file(name, distances);
}

static int setup(void **state)
{
	(void)state;
	strcpy(root, "/tmp/umm-numa-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
	(void)stat;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	(void)state;
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void nodes_with_gap_and_memory_only_node(void **state)
{
	(void)state;
	write_file("online", "0-1,3\n");
	make_node(0, 4096, "0-3,8\n", "10 21 17\n");
	make_node(1, 8192, "4-7\n", "21 10 28\n");
	make_node(3, 1 << 20, "\n", "17 28 10\n");
	assert_int_equal(numa_read(root, nodes), 3);

	assert_int_equal(nodes[0].id, 0);
	assert_int_equal(nodes[0].total_bytes, 4096 * 1024);
	assert_int_equal(nodes[0].free_bytes, 1024 * 1024);
	assert_string_equal(nodes[0].cpus, "0-3,8");
	assert_false(nodes[0].memory_only);
	assert_int_equal(nodes[0].ndistances, 3);
	assert_int_equal(nodes[0].distances[1], 21);

	assert_int_equal(nodes[2].id, 3);
	assert_int_equal(nodes[2].total_bytes, UINT64_C(1) << 30);
	assert_string_equal(nodes[2].cpus, "");
	assert_true(nodes[2].memory_only);
	assert_int_equal(nodes[2].distances[0], 17);
}

static void node_that_vanished_is_reported_empty(void **state)
{
	(void)state;
	write_file("online", "2\n");
	assert_int_equal(numa_read(root, nodes), 1);
	assert_int_equal(nodes[0].id, 2);
	assert_int_equal(nodes[0].total_bytes, 0);
	assert_int_equal(nodes[0].ndistances, 0);
	assert_false(nodes[0].memory_only);
}

static void kernel_without_numa_is_enoent(void **state)
{
	(void)state;
	assert_int_equal(numa_read(root, nodes), -ENOENT);
}

static void damaged_list_ends_where_it_is_damaged(void **state)
{
	(void)state;
	write_file("online", "1,x,3\n");
	assert_int_equal(numa_read(root, nodes), 1);
	write_file("online", "0-100000\n");
	assert_int_equal(numa_read(root, nodes), NUMA_NODES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nodes_with_gap_and_memory_only_node, setup,
						teardown),
		cmocka_unit_test_setup_teardown(node_that_vanished_is_reported_empty, setup,
						teardown),
		cmocka_unit_test_setup_teardown(kernel_without_numa_is_enoent, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged_list_ends_where_it_is_damaged, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
