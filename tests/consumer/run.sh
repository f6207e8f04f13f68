#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Install the build to a prefix of its own, then build and run the project in this folder,
# copied out of the tree, against that prefix: by pkg-config, and by find_package(). Where
# the OpenCL backend was built, so is examples/hello.c.
# usage: run.sh BUILD_DIR C_COMPILER
set -euo pipefail

build=$1
cc=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$build/consumer
prefix=$work/prefix

rm -rf "$work"
mkdir -p "$work/src"
cp "$here/CMakeLists.txt" "$here/consumer.c" "$here/../../examples/hello.c" "$work/src"
cd "$work"
cmake --install "$build" --prefix "$prefix" >install.log || { cat install.log; exit 1; }
pc=$(find "$prefix" -name umm.pc)

echo "== pkg-config"
export PKG_CONFIG_PATH=${pc%/*} LD_LIBRARY_PATH=${pc%/pkgconfig/*}
version=$(pkg-config --modversion umm)
read -ra flags < <(pkg-config --cflags --libs umm)
"$cc" -Wall -Wextra -Werror -o consumer-pc src/consumer.c "${flags[@]}"
./consumer-pc "$version"
if [ -e "$prefix/include/umm_opencl.h" ]; then
	"$cc" -o hello-pc src/hello.c "${flags[@]}" -lumm_opencl -lOpenCL
	ldd ./hello-pc | grep "libumm_opencl.so.* => $prefix/"
fi
[ ! -e "$prefix/bin/umm" ] || "$prefix/bin/umm" --version
unset LD_LIBRARY_PATH PKG_CONFIG_PATH

echo "== find_package"
{ cmake -S src -B cmake -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$prefix" &&
	cmake --build cmake; } >cmake.log || { cat cmake.log; exit 1; }
./cmake/consumer "$version"
if [ -e "$prefix/include/umm_opencl.h" ]; then
	ldd ./cmake/hello | grep "libumm_opencl.so.* => $prefix/"
fi
