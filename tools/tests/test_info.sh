#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What "umm info" says and how it exits, case by case; 77 is a skip and says why.
# usage: test_info.sh CASE UMM JSON_CHECK REFUSE_UFFD BUILD_DIR HAVE_OPENCL
set -euo pipefail

case_name=$1 umm=$2 json_check=$3 refuse_uffd=$4 build_dir=$5 have_opencl=$6
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/no-icd"
export OCL_ICD_VENDORS=$scratch/no-icd/ # but where a case is about OpenCL

fail() {
	printf 'FAILED: %s\n' "$*" >&2
	exit 1
}

skip() {
	printf 'SKIPPED: %s\n' "$*"
	exit 77
}

# expect STATUS COMMAND...: its output goes to out and err
expect() {
	local wanted=$1 status=0

	shift
	"$@" >"$scratch/out" 2>"$scratch/err" || status=$?
	[ "$status" -eq "$wanted" ] ||
		fail "$* exited with $status, not $wanted: $(cat "$scratch/out" "$scratch/err")"
}

says() { # FILE TEXT
	grep -qF -- "$2" "$scratch/$1" || fail "\"$2\" is missing in: $(cat "$scratch/$1")"
}

json_is() {
	"$json_check" "$@" <"$scratch/out" || fail "in: $(cat "$scratch/out")"
}

# Lines wider than a terminal, in characters
fits() {
	local wide

	wide=$(LC_ALL=C.UTF-8 awk 'length > 80' "$scratch/out")
	[ -z "$wide" ] || fail "wider than 80 columns: $wide"
}

usage() {
	expect 0 "$umm" --version
	grep -qE '^umm [0-9]+\.[0-9]+\.[0-9]+$' "$scratch/out" || fail "umm --version"
	expect 0 "$umm" --help
	says out info
	fits
	expect 0 "$umm" info --help
	says out --json
	fits
	cp "$scratch/out" "$scratch/info-help"
	expect 0 "$umm" help info
	cmp "$scratch/out" "$scratch/info-help"
	expect 2 "$umm"
	says err usage:
	expect 2 "$umm" inof
	says err 'did you mean "umm info"?'
	expect 2 "$umm" nonsense
	says err '"umm --help"'
	! grep -q 'did you mean' "$scratch/err" || fail "a far-fetched guess"
	expect 2 "$umm" help nonsense
	expect 2 "$umm" info --nonsense
	says err '"--nonsense"'
	expect 2 "$umm" info extra
	says err '"extra"'
	[ -c /dev/full ] || return 0
	expect 1 bash -c '"$1" info >/dev/full' - "$umm"
	says err 'No space left'
}

text() {
	expect 0 "$umm" info
	fits
	[ ! -s "$scratch/err" ] || fail "on standard error: $(cat "$scratch/err")"
	says out "libumm $("$umm" --version | cut -d' ' -f2) on Linux $(uname -r)"
	for heading in Userfaultfd 'Kernel features' 'Fault servers' Memory 'NUMA nodes' OpenCL; do
		says out "$heading"
	done
	for feature in UFFDIO_MOVE UFFDIO_POISON PAGEMAP_SCAN PROCMAP_QUERY; do
		says out "$feature"
	done
	says out vm.max_map_count
	[ ! -d /sys/devices/system/node/node0 ] ||
		grep -qE 'as a device|built without NUMA' "$scratch/out" || fail "what of the nodes?"
}

json() {
	expect 0 "$umm" info --json
	json_is format=1 "version=$("$umm" --version | cut -d' ' -f2)" \
		"kernel.release=$(uname -r)" "kernel.machine=$(uname -m)" \
		userfaultfd.access userfaultfd.error userfaultfd.advice \
		userfaultfd.unprivileged_userfaultfd features#7 features.move.state \
		features.move.since=6.8 features.move.required=false features.move.fallback \
		features.poison.rung features.pagemap_scan.better features.procmap_query.state \
		features.write_protect.required=true features.events.required=true \
		features.syscall_faults.since=null fault_servers.threads \
		fault_servers.high_priority memory.total_bytes memory.available_bytes \
		memory.page_bytes=4096 "memory.max_map_count=$(cat /proc/sys/vm/max_map_count)" \
		transparent_huge_pages numa opencl.backend opencl.advice opencl.platforms
	if [ -d /sys/devices/system/node/node0 ]; then
		json_is numa.0.node=0 numa.0.total_bytes numa.0.free_bytes \
			"numa.0.cpus=$(cat /sys/devices/system/node/node0/cpulist)" \
			numa.0.memory_only=false numa.0.distances.0=10
	fi
	expect 0 "$umm" info -j
	json_is format=1
}

no_opencl() {
	expect 0 "$umm" info --json
	if [ "$have_opencl" = ON ]; then
		json_is opencl.backend=true opencl.platforms#0 'opencl.advice~install'
	else
		json_is opencl.backend=false opencl.platforms#0 'opencl.advice~UMM_OPENCL=ON'
	fi
	expect 0 "$umm" info
	says out 'to do'
}

opencl_device() {
	[ "$have_opencl" = ON ] || skip "built without OpenCL"
	[ -e /etc/OpenCL/vendors/pocl.icd ] ||
		skip "PoCL is not installed (Debian: apt-get install pocl-opencl-icd)"
	cp /etc/OpenCL/vendors/pocl.icd "$scratch/no-icd/"
	export POCL_DEVICES=basic POCL_CACHE_DIR=$scratch
	expect 0 "$umm" info --json
	json_is opencl.backend=true opencl.advice= opencl.platforms#1 \
		'opencl.platforms.0.name~Portable' opencl.platforms.0.devices#1 \
		opencl.platforms.0.devices.0.type=cpu opencl.platforms.0.devices.0.usable=true \
		opencl.platforms.0.devices.0.error=null \
		opencl.platforms.0.devices.0.capabilities#7 \
		opencl.platforms.0.devices.0.capabilities.paging=true \
		opencl.platforms.0.devices.0.max_device_bytes
	expect 0 "$umm" info
	says out 'demand paging'
	fits
}

uffd_refused() {
	expect 0 "$refuse_uffd" all "$umm" info --json
	json_is userfaultfd.access=none userfaultfd.error=EPERM userfaultfd.advice~userfaultfd \
		features.move.state=unknown features.write_protect.state=unknown \
		features.procmap_query.state
	expect 0 "$refuse_uffd" all "$umm" info
	says out 'cannot be opened'
	says out 'to do'
	fits
}

# What an ordinary user sees: $1... runs the command as one.
check_user_mode() {
	expect 0 "$@" "$umm" info --json
	json_is userfaultfd.access=user-mode-only \
		'userfaultfd.advice~sysctl vm.unprivileged_userfaultfd=1' \
		features.write_protect.state=best features.syscall_faults.state=fallback \
		'features.syscall_faults.better~vm.unprivileged_userfaultfd=1'
	expect 0 "$@" "$umm" info
	says out 'vm.unprivileged_userfaultfd=1'
	says out 'EFAULT'
	fits
}

uffd_user_mode() {
	expect 0 "$umm" info --json
	! "$json_check" userfaultfd.access=none <"$scratch/out" 2>/dev/null ||
		skip "this process may not open a userfaultfd at all"
	check_user_mode "$refuse_uffd" kernel
}

unprivileged() {
	local as_nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)

	[ "$(id -u)" -eq 0 ] || skip "only root can become another user"
	[ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ] ||
		skip "vm.unprivileged_userfaultfd is set: everybody may open a userfaultfd"
	"${as_nobody[@]}" "$umm" --version >/dev/null 2>&1 ||
		skip "an ordinary user cannot read $build_dir"
	! "${as_nobody[@]}" test -w /dev/userfaultfd ||
		skip "/dev/userfaultfd is open to everybody"
	chmod 755 "$scratch"
	check_user_mode "${as_nobody[@]}"
	expect 0 "${as_nobody[@]}" "$umm" info --json
	json_is userfaultfd.device_permitted=false fault_servers.high_priority=false
}

# The installed command finds its libraries beside itself, and does without the backend.
installed() {
	local umm_installed=$scratch/prefix/bin/umm

	cmake --install "$build_dir" --prefix "$scratch/prefix" >/dev/null
	expect 0 "$umm_installed" info --json
	[ "$have_opencl" = ON ] || return 0
	json_is opencl.backend=true
	! ldconfig -p 2>/dev/null | grep -q libumm_opencl ||
		skip "libumm_opencl is installed on this machine"
	find "$scratch/prefix" -name 'libumm_opencl.so*' -delete
	expect 0 "$umm_installed" info --json
	json_is opencl.backend=false opencl.platforms#0 'opencl.advice~libumm_opencl.so'
}

case $case_name in
usage | text | json | no_opencl | opencl_device | uffd_refused | uffd_user_mode | \
	unprivileged | installed)
	"$case_name"
	;;
*)
	fail "there is no case $case_name"
	;;
esac
