# SPDX-License-Identifier: MIT
# Draws what umm-bench --out DIR wrote: gnuplot -e "dir='DIR'" pictures.gp
# A table that is missing, because its cases were not chosen, has no picture.

set terminal svg size 800,480 font "sans,13" background "white"
set grid lc rgb "#dddddd"
set key left top
has(name) = system(sprintf("test -f '%s/%s.tsv' && echo 1 || echo 0", dir, name)) + 0
table(name) = sprintf("%s/%s.tsv", dir, name)
picture(name) = sprintf("%s/%s.svg", dir, name)

if (has("latency")) {
	set output picture("latency")
	set title "CPU read fault on a device page, 4 KiB: share of faults that take at most so long"
	set xlabel "microseconds"
	set ylabel "share of faults"
	set logscale x
	set yrange [0:1]
	set key right bottom
	plot table("latency") using 2:1 with lines lw 2 lc rgb "#1f5fa8" title "libumm", \
	     "" using 3:1 with lines lw 2 lc rgb "#c0522d" title "bare program, server on that CPU"
	unset logscale
	set autoscale
	set key left top
}

if (has("bandwidth")) {
	set output picture("bandwidth")
	set title "One migration by its size, reference device"
	set xlabel "bytes moved at once"
	set ylabel "GiB/s"
	set logscale x 2
	set logscale y 10
	set xrange [3500:1.3e9]
	set xtics ("4 KiB" 2**12, "64 KiB" 2**16, "1 MiB" 2**20, "16 MiB" 2**24, \
		   "256 MiB" 2**28, "1 GiB" 2**30)
	set key right bottom
	plot table("bandwidth") using 1:4 with lines lw 2 dt 2 lc rgb "#555555" \
		title "the limit: memcpy of as much", \
	     "" using 1:2 with linespoints lw 2 pt 7 ps 0.6 lc rgb "#1f5fa8" title "to the device", \
	     "" using 1:3 with linespoints lw 2 pt 5 ps 0.6 lc rgb "#c0522d" title "home"
	unset logscale
	set autoscale
	set xtics autofreq
	set key left top
}

if (has("threads")) {
	set output picture("threads")
	set title "Threads that fault at a time: faults of all of them in a second"
	set xlabel "threads"
	set ylabel "thousand faults a second"
	set logscale x 2
	set yrange [0:*]
	set xrange [0.9:9]
	set xtics (1, 2, 4, 8)
	set key outside bottom center horizontal
	plot table("threads") using 1:3 with linespoints lw 2 pt 5 ps 0.6 lc rgb "#c0522d" \
		title "bare program, as many servers", \
	     "" using 1:4 with lines lw 1 dt 2 lc rgb "#555555" title "goal", \
	     "" using 1:2 with linespoints lw 2 pt 7 ps 0.6 lc rgb "#1f5fa8" title "libumm"
}
