#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Install the build to a prefix of its own, then build and run the project in this folder,
# copied out of the tree, against that prefix: by pkg-config, and by find_package().
# usage: run.sh BUILD_DIR C_COMPILER
set -euo pipefail

build=$1
cc=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$build/consumer

rm -rf "$work"
mkdir -p "$work/src"
cp "$here"/CMakeLists.txt "$here"/*.c "$work/src"
cd "$work"
cmake --install "$build" --prefix "$work/prefix" >install.log || { cat install.log; exit 1; }

pc=$(find prefix -name umm.pc)
export PKG_CONFIG_PATH="$work/${pc%/*}"
LD_LIBRARY_PATH="$work/${pc%/pkgconfig/*}"
export LD_LIBRARY_PATH
version=$(pkg-config --modversion umm)

echo "== pkg-config, version $version"
# shellcheck disable=SC2046 # the flags are words
"$cc" -Wall -Wextra -Werror -o consumer-pc src/consumer.c $(pkg-config --cflags --libs umm)
./consumer-pc "$version"

echo "== find_package"
unset LD_LIBRARY_PATH PKG_CONFIG_PATH
cmake -S src -B cmake -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$work/prefix" >cmake.log ||
	{ cat cmake.log; exit 1; }
cmake --build cmake >>cmake.log || { cat cmake.log; exit 1; }
./cmake/consumer "$version"

echo "== the installed tool"
LD_LIBRARY_PATH="$work/${pc%/pkgconfig/*}" prefix/bin/umm --version
