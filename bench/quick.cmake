# SPDX-License-Identifier: MIT
# Runs `umm-bench --quick`, reads what it wrote and draws the pictures.
# usage: cmake -DBENCH=umm-bench -DOUT=dir [-DGNUPLOT=gnuplot] -P quick.cmake

execute_process(
  COMMAND ${BENCH} --quick --json - --out ${OUT}
  OUTPUT_VARIABLE json
  ERROR_VARIABLE table
  RESULT_VARIABLE status)
message("${table}")
if(NOT status EQUAL 0)
  message(FATAL_ERROR "umm-bench ended with ${status}")
endif()

execute_process(COMMAND ${BENCH} --list OUTPUT_VARIABLE listing)
string(REGEX REPLACE "[^\n]" "" newlines "${listing}")
string(LENGTH "${newlines}" listed)

string(JSON cases ERROR_VARIABLE error LENGTH "${json}" cases)
if(error OR NOT cases EQUAL listed)
  message(FATAL_ERROR "The JSON has ${cases} cases of ${listed}. ${error}")
endif()

set(done 0)
math(EXPR last "${cases} - 1")
foreach(i RANGE ${last})
  string(JSON name GET "${json}" cases ${i} name)
  string(JSON outcome GET "${json}" cases ${i} outcome)
  if(outcome STREQUAL "done")
    math(EXPR done "${done} + 1")
    string(JSON median ERROR_VARIABLE error GET "${json}" cases ${i} libumm median)
    if(error)
      message(FATAL_ERROR "${name}: no figure for libumm. ${error}")
    endif()
  endif()
endforeach()
message("${done} of ${cases} cases measured, the rest skipped")

# In a container without userfaultfd nothing is measured, and there is nothing to draw.
if(NOT GNUPLOT)
  message("Pictures are not drawn: no gnuplot (Debian: apt-get install gnuplot-nox)")
  return()
endif()
foreach(picture latency bandwidth threads)
  file(REMOVE ${OUT}/${picture}.svg)
endforeach()
execute_process(COMMAND ${GNUPLOT} -e "dir='${OUT}'" ${CMAKE_CURRENT_LIST_DIR}/pictures.gp
                RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "gnuplot ended with ${status}")
endif()
foreach(picture latency bandwidth threads)
  if(NOT EXISTS ${OUT}/${picture}.tsv)
    continue()
  endif()
  file(READ ${OUT}/${picture}.svg svg)
  if(NOT svg MATCHES "<path.*</svg>")
    message(FATAL_ERROR "${picture}.svg shows nothing")
  endif()
endforeach()
