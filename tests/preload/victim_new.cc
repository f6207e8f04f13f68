// SPDX-License-Identifier: MIT
// C++: static initialisers allocate before main(), new and delete, exceptions, containers.
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

struct alignas(8192) Aligned {
	char bytes[8192];
};

/* Those of each kind: aligned, of arrays, that throw not. */
static bool news()
{
	auto *many = new Aligned[1000];
	auto *one = new (std::nothrow) Aligned;
	bool right = !(reinterpret_cast<uintptr_t>(many) % 8192) &&
		     !(reinterpret_cast<uintptr_t>(one) % 8192);

	for (unsigned i = 0; i < 1000; i++)
		many[i].bytes[8191] = static_cast<char>(i);
	for (unsigned i = 0; i < 1000; i++)
		right = right && many[i].bytes[8191] == static_cast<char>(i);
	delete one;
	delete[] many;
	::operator delete(::operator new(4096), static_cast<size_t>(4096));
	return right && !::operator new(SIZE_MAX / 4, std::nothrow);
}

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
	if (!thrown || !news() || before_main[999] != std::string(100, 'x'))
		return 1;
	std::puts("victim: all as it should be");
	return 0;
}
