# SPDX-License-Identifier: MIT
# umm_embed(TARGET SYMBOL FILE): TARGET gets `const char SYMBOL[]`, the text of FILE with a
# terminating zero. Run as a script, it writes that as C.

if(CMAKE_SCRIPT_MODE_FILE)
  file(READ "${FILE}" bytes HEX)
  string(REGEX REPLACE "(..)" "'\\\\x\\1'," bytes "${bytes}")
  set(eight "'....','....','....','....','....','....','....','....',")
  string(REGEX REPLACE "(${eight})" "\\1\n\t" bytes "${bytes}")
  file(WRITE "${OUTPUT}"
       "extern const char ${SYMBOL}[];\n\nconst char ${SYMBOL}[] = {\n\t${bytes}0\n};\n")
  return()
endif()

set(umm_embed_script "${CMAKE_CURRENT_LIST_FILE}")

function(umm_embed target symbol file)
  get_filename_component(file "${file}" ABSOLUTE)
  set(output "${CMAKE_CURRENT_BINARY_DIR}/${symbol}.c")
  add_custom_command(
    OUTPUT "${output}"
    COMMAND ${CMAKE_COMMAND} "-DSYMBOL=${symbol}" "-DFILE=${file}" "-DOUTPUT=${output}" -P
            "${umm_embed_script}"
    DEPENDS "${file}" "${umm_embed_script}"
    COMMENT "Embedding ${file}"
    VERBATIM)
  target_sources(${target} PRIVATE "${output}")
endfunction()
