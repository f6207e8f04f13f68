/* SPDX-License-Identifier: MIT */
/* Memory nodes by what they can do: ranking, from files as the kernel writes them. */
#include "rig.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frames.h"
#include "nodes.h"

static char root[64];

static void put(const char *path, const char *text)
{
	char name[256], *slash;
	FILE *file;

	snprintf(name, sizeof(name), "%s/%s", root, path);
	for (slash = strchr(name + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(name, 0755);
		*slash = '/';
	}
	file = fopen(name, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* A node with so much memory, and HMAT's figures where bandwidth is not 0. */
static void put_node(int number, const char *cpus, unsigned mib, const char *distances)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "node%d/meminfo", number);
	snprintf(text, sizeof(text), "Node %d MemTotal:  %u kB\nNode %d MemFree:  %u kB\n", number,
		 mib << 10, number, mib << 9);
	put(path, text);
	snprintf(path, sizeof(path), "node%d/cpulist", number);
	put(path, cpus);
	snprintf(path, sizeof(path), "node%d/distance", number);
	put(path, distances);
}

static void put_performance(int number, int initiator, unsigned bandwidth, unsigned latency)
{
	static const char *const dirs[] = { "read", "write" };
	char path[96], text[32];

	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "node%d/access0/initiators/%s_bandwidth", number,
			 dirs[i]);
		snprintf(text, sizeof(text), "%u\n", bandwidth);
		put(path, text);
		snprintf(path, sizeof(path), "node%d/access0/initiators/%s_latency", number,
			 dirs[i]);
		snprintf(text, sizeof(text), "%u\n", latency);
		put(path, text);
	}
	snprintf(path, sizeof(path), "node%d/access0/initiators/node%d/x", number, initiator);
	put(path, "");
}

static struct nodes *read_nodes(int cpu)
{
	const struct library *library;
	struct nodes *nodes = malloc(sizeof(*nodes));
	struct cpus cpus = { 0 };
	int ret;

	library = library_get(UMM_NUMA_NEAR, &ret);
	assert_non_null(library);
	assert_non_null(nodes);
	cpus_add(&cpus, (unsigned)cpu);
	assert_int_equal(nodes_read(library, root, &cpus, nodes), 0);
	return nodes;
}

static void assert_order(const struct nodes *nodes, const int *numbers, unsigned count)
{
	assert_int_equal(nodes->count, count);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(nodes->node[i].number, numbers[i]);
}

static int make_root(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/tmp/umm-nodes-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int remove_root(void **state)
{
	(void)state;
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Two sockets, CXL memory as node 0, high-bandwidth memory as node 3. */
static void put_hmat_machine(void)
{
	put("online", "0-3\n");
	put_node(0, "\n", 1024, "10 20 30 30\n");
	put_node(1, "0-3\n", 512, "20 10 21 12\n");
	put_node(2, "4-7\n", 512, "30 21 10 31\n");
	put_node(3, "\n", 256, "30 12 31 10\n");
	put_performance(0, 1, 10000, 250);
	put_performance(1, 1, 50000, 80);
	put_performance(2, 2, 50000, 80);
	put_performance(3, 1, 200000, 90);
}

static void nodes_are_ranked_by_what_they_can_do(void **state)
{
	struct nodes *nodes;

	(void)state;
	put_hmat_machine();
	nodes = read_nodes(0);
	assert_order(nodes, (int[]){ 3, 1, 2, 0 }, 4);
	assert_int_equal(nodes->node[0].read_bandwidth, 200000);
	assert_int_equal(nodes->node[3].read_latency, 250);
	assert_int_equal(nodes->node[3].total_bytes, UINT64_C(1024) << 20);
	assert_int_equal(nodes->node[3].free_bytes, UINT64_C(512) << 20);
	assert_int_equal(nodes->node[3].ncpus, 0);
	free(nodes);
}

static void rank_depends_on_where_the_process_runs(void **state)
{
	struct nodes *nodes;

	(void)state;
	put_hmat_machine();
	nodes = read_nodes(5);
	/* 200000 at 31/12, 50000 at 10/10, 50000 at 21/10, 10000 at 30/20 */
	assert_order(nodes, (int[]){ 3, 2, 1, 0 }, 4);
	free(nodes);
}

static void without_hmat_distance_decides(void **state)
{
	struct nodes *nodes;

	(void)state;
	put("online", "0-2\n");
	put_node(0, "\n", 1024, "10 28 17\n");
	put_node(1, "0-1\n", 1024, "28 10 20\n");
	put_node(2, "2-3\n", 1024, "17 20 10\n");
	put_performance(0, 1, 999999, 1); /* of one node only: says nothing */
	nodes = read_nodes(1);
	assert_order(nodes, (int[]){ 1, 2, 0 }, 3);
	assert_int_equal(nodes->node[2].distance, 28);
	free(nodes);
}

static void far_memory_is_served_by_the_nearest_cpus(void **state)
{
	struct nodes *nodes;

	(void)state;
	put_hmat_machine();
	nodes = read_nodes(2);
	/* CXL memory, whose nearest CPUs that the process may use are CPU 2 of node 1 */
	assert_int_equal(cpus_count(&nodes->node[3].near), 1);
	assert_true(cpus_have(&nodes->node[3].near, 2));
	free(nodes);
	nodes = read_nodes(6);
	assert_true(cpus_have(&nodes->node[3].near, 6));
	free(nodes);
}

/* A machine of more CPUs than a cpu_set_t has; and a kernel that does not say which are ours. */
static void cpus_beyond_a_thousand_count_and_all_of_them_where_none_are_told(void **state)
{
	struct nodes *nodes = malloc(sizeof(*nodes));
	struct cpus none = { 0 };
	int ret;

	(void)state;
	assert_non_null(nodes);
	put("online", "0-1\n");
	put_node(0, "0-1023\n", 512, "10 20\n");
	put_node(1, "1024-2047\n", 512, "20 10\n");
	assert_int_equal(nodes_read(library_get(UMM_NUMA_NEAR, &ret), root, &none, nodes), 0);
	assert_order(nodes, (int[]){ 0, 1 }, 2);
	assert_int_equal(cpus_count(&nodes->node[0].near), 1024);
	assert_int_equal(cpus_count(&nodes->node[1].near), 1024);
	assert_true(cpus_have(&nodes->node[1].near, 2047));
	assert_int_equal(nodes->node[1].distance, 10);
	free(nodes);
}

static void node_without_memory_comes_last_and_is_refused(void **state)
{
	struct nodes *nodes;

	(void)state;
	rig_log_clear();
	put("online", "0-1\n");
	put_node(0, "0-1\n", 0, "10 20\n");
	put_node(1, "2-3\n", 512, "20 10\n");
	nodes = read_nodes(0);
	assert_order(nodes, (int[]){ 1, 0 }, 2);
	assert_int_equal(nodes->node[1].usable, -ENODEV);
	assert_null(nodes_find(nodes, 0));
	assert_logged("node 0 has no memory");
	free(nodes);
}

static void choice_is_among_those_that_may_be_used(void **state)
{
	struct nodes *nodes;

	(void)state;
	rig_log_clear();
	put_hmat_machine();
	nodes = read_nodes(0);
	for (unsigned i = 0; i < nodes->count; i++)
		nodes->node[i].usable = 0;
	assert_int_equal(nodes_find(nodes, UMM_NUMA_NEAR)->number, 3);
	assert_int_equal(nodes_find(nodes, UMM_NUMA_FAR)->number, 0);
	assert_int_equal(nodes_find(nodes, 2)->number, 2);
	nodes->node[0].usable = nodes->node[3].usable = -ENODEV;
	assert_int_equal(nodes_find(nodes, UMM_NUMA_NEAR)->number, 1);
	assert_int_equal(nodes_find(nodes, UMM_NUMA_FAR)->number, 2);
	assert_null(nodes_find(nodes, 4));
	assert_logged("there is no memory node 4; nodes that may be used: 1, 2");
	free(nodes);
}

static void without_files_there_are_no_nodes(void **state)
{
	static struct nodes nodes;
	struct cpus cpus = { 0 };
	int ret;

	(void)state;
	assert_int_equal(nodes_read(library_get(UMM_NUMA_NEAR, &ret), root, &cpus, &nodes),
			 -ENODEV);
	put("online", "0\n"); /* the files of a node may vanish while they are read */
	assert_int_equal(nodes_read(library_get(UMM_NUMA_NEAR, &ret), root, &cpus, &nodes), 0);
	assert_int_equal(nodes.count, 1);
	assert_int_equal(nodes.node[0].usable, -ENODEV);
}

/* Every other CPU of a large machine. */
static void long_lists_of_cpus_are_read_to_the_end(void **state)
{
	char list[NODE_CPUS] = "", text[NODE_CPUS];
	struct nodes *nodes;
	size_t len = 0;

	(void)state;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu += 2)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%d", cpu ? "," : "",
					cpu);
	put("online", "0\n");
	put_node(0, list, 1024, "10\n");
	nodes = read_nodes(0);
	assert_int_equal(nodes->node[0].ncpus, CPU_SETSIZE / 2);
	assert_true(cpus_have(&nodes->node[0].cpus, CPU_SETSIZE - 2));
	cpus_text(&nodes->node[0].cpus, text, sizeof(text));
	assert_string_equal(text, list);
	free(nodes);
}

static void long_lists_of_nodes_are_read_to_the_end(void **state)
{
	char list[NODE_CPUS] = "";
	struct nodes *nodes;
	size_t len = 0;

	(void)state;
	for (int node = 100; node < 100 + 2 * NODES_MAX; node += 2)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%d",
					node > 100 ? "," : "", node);
	put("online", list);
	nodes = read_nodes(0);
	assert_int_equal(nodes->count, NODES_MAX);
	assert_int_equal(nodes->node[NODES_MAX - 1].number, 100 + 2 * (NODES_MAX - 1));
	free(nodes);
}

static void pool_of_more_frames_than_are_counted_is_refused(void **state)
{
	const uint64_t tib = UINT64_C(1) << 40;
	struct node node = { .number = 7, .total_bytes = 80 * tib, .free_bytes = 64 * tib };
	uint32_t nframes = 0;

	(void)state;
	rig_log_clear();
	assert_int_equal(frames_wanted(16 * tib, &node, &nframes), -ENOSPC);
	assert_logged("a pool has 16777214 at most");
	assert_int_equal(frames_wanted(17 * tib, &node, &nframes), -ENOSPC);
	assert_int_equal(nframes, 0);
	assert_int_equal(frames_wanted(16 * tib - BLOCK, &node, &nframes), 0);
	assert_int_equal(nframes, UINT32_MAX - 511);
	/* Half of what is free would be more. */
	assert_int_equal(frames_wanted(0, &node, &nframes), 0);
	assert_int_equal(nframes, UINT32_MAX - 511);
}

static void cpus_are_listed_as_ranges(void **state)
{
	struct cpus cpus = { 0 };
	char text[64];

	(void)state;
	cpus_text(&cpus, text, sizeof(text));
	assert_string_equal(text, "");
	for (unsigned i = 0; i < 4; i++)
		cpus_add(&cpus, i);
	cpus_add(&cpus, 8);
	cpus_add(&cpus, CPUS_MAX - 1);
	cpus_text(&cpus, text, sizeof(text));
	assert_string_equal(text, "0-3,8,8191");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nodes_are_ranked_by_what_they_can_do, make_root,
						remove_root),
		cmocka_unit_test_setup_teardown(
			cpus_beyond_a_thousand_count_and_all_of_them_where_none_are_told, make_root,
			remove_root),
		cmocka_unit_test_setup_teardown(rank_depends_on_where_the_process_runs, make_root,
						remove_root),
		cmocka_unit_test_setup_teardown(without_hmat_distance_decides, make_root,
						remove_root),
		cmocka_unit_test_setup_teardown(far_memory_is_served_by_the_nearest_cpus, make_root,
						remove_root),
		cmocka_unit_test_setup_teardown(node_without_memory_comes_last_and_is_refused,
						make_root, remove_root),
		cmocka_unit_test_setup_teardown(choice_is_among_those_that_may_be_used, make_root,
						remove_root),
		cmocka_unit_test_setup_teardown(without_files_there_are_no_nodes, make_root,
						remove_root),
		cmocka_unit_test(pool_of_more_frames_than_are_counted_is_refused),
		cmocka_unit_test_setup_teardown(long_lists_of_nodes_are_read_to_the_end, make_root,
						remove_root),
		cmocka_unit_test_setup_teardown(long_lists_of_cpus_are_read_to_the_end, make_root,
						remove_root),
		cmocka_unit_test(cpus_are_listed_as_ranges),
	};

	return cmocka_run_group_tests_name("numa_nodes", tests, NULL, NULL);
}
