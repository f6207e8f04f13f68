# SPDX-License-Identifier: MIT
# What every target of this project is built with. Call it for each target; nothing is set
# globally, so that libumm can be a subproject.

set(UMM_WARNINGS
    -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef -Wvla
    -Wformat=2)

string(REPLACE "," ";" UMM_SANITIZERS "${UMM_SANITIZE}")
foreach(sanitizer IN LISTS UMM_SANITIZERS)
  if(NOT sanitizer MATCHES "^(address|undefined|thread|leak)$")
    message(FATAL_ERROR "UMM_SANITIZE=${UMM_SANITIZE}: unknown sanitizer '${sanitizer}'. "
                        "Use address,undefined or thread.")
  endif()
endforeach()

function(umm_target_defaults target)
  set_target_properties(
    ${target}
    PROPERTIES C_STANDARD 11
               C_STANDARD_REQUIRED ON
               C_EXTENSIONS OFF
               C_VISIBILITY_PRESET hidden
               POSITION_INDEPENDENT_CODE ON)
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE $<$<CONFIG:Debug>:UMM_DEBUG>)
  target_compile_options(
    ${target}
    PRIVATE $<$<COMPILE_LANGUAGE:C>:${UMM_WARNINGS}>
            $<$<BOOL:${UMM_WERROR}>:-Werror>)
  if(UMM_SANITIZE)
    target_compile_options(
      ${target} PRIVATE -fsanitize=${UMM_SANITIZE} -fno-sanitize-recover=all
                        -fno-omit-frame-pointer -O1)
    target_link_options(${target} PRIVATE -fsanitize=${UMM_SANITIZE})
  endif()
endfunction()
