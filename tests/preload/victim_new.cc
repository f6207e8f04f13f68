// SPDX-License-Identifier: MIT
// C++: static initialisers allocate before main(), new and delete, exceptions, containers.
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

static std::vector<std::string> before_main(1000, std::string(100, 'x'));

int main()
{
	std::vector<std::vector<uint64_t>> parts;
	std::map<int, std::unique_ptr<char[]>> small;
	bool thrown = false;

	for (uint64_t i = 0; i < 24; i++)
		parts.emplace_back(524288, i);
	for (int i = 0; i < 10000; i++)
		small[i] = std::make_unique<char[]>(100);
	for (uint64_t i = 0; i < 24; i++)
		for (uint64_t word : parts[i])
			if (word != i)
				return 1;
	try {
		parts.emplace_back(SIZE_MAX / 32);
	} catch (const std::bad_alloc &) {
		thrown = true;
	}
	if (!thrown || before_main[999] != std::string(100, 'x'))
		return 1;
	std::puts("victim: all as it should be");
	return 0;
}
