# What every target of the tree shares: the language, the warnings, the
# sanitizers of the preset, and the check that each header compiles alone.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# All of it may end up in a library that is preloaded.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_VERIFY_INTERFACE_HEADER_SETS ON)

option(ND_WERROR "Treat warnings as errors" OFF)
# Presets tsan and analyze build without, so that a file that does not include
# what it uses is still found.
option(ND_PCH "Precompile the headers that most files of a kind include" OFF)
# record: programs leave beside the objects how often they passed what; use: what
# was passed most is laid out closest.
set(ND_PROFILE "" CACHE STRING "record, use, or empty for neither")
set(ND_SANITIZE "" CACHE STRING "Value of -fsanitize=, empty for none")

add_library(nd_options INTERFACE)
target_compile_options(nd_options INTERFACE -Wall -Wextra $<$<BOOL:${ND_WERROR}>:-Werror>
  # Nobody puts functions of their own in the place of nd's: calls within a file
  # may be inlined though its code is position independent.
  -fno-semantic-interposition)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  # GCC 12 takes temporaries with a std::vector in them for uninitialized at -O2,
  # and, where it links what is optimized across files, short strings for longer
  # than they are.
  target_compile_options(nd_options INTERFACE
    $<$<CONFIG:Release>:-Wno-maybe-uninitialized>)
  target_link_options(nd_options INTERFACE
    $<$<CONFIG:Release>:-Wno-stringop-overread>)
  # What is [[unlikely]] is kept out of the way altogether: a message passes more
  # code than the first instruction cache holds.
  target_compile_options(nd_options INTERFACE
    $<$<CONFIG:Release>:--param=builtin-expect-probability=100>)
  # A request, some hundred bytes, is cleared by stores: to begin a "rep stos"
  # takes longer than they do.
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL x86_64)
    target_compile_options(nd_options INTERFACE
      $<$<CONFIG:Release>:-mmemset-strategy=unrolled_loop:256:noalign,libcall:-1:noalign>)
  endif()
endif()
if(ND_PROFILE STREQUAL record)
  set(nd_profile -fprofile-generate -fprofile-update=prefer-atomic)
elseif(ND_PROFILE STREQUAL use)
  # What the training did not pass is compiled as it is without one.
  set(nd_profile -fprofile-use -fprofile-correction -fprofile-partial-training
    -Wno-missing-profile)
endif()
target_compile_options(nd_options INTERFACE ${nd_profile})
target_link_options(nd_options INTERFACE ${nd_profile})
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  target_compile_options(nd_options INTERFACE -Wthread-safety)
endif()
if(ND_SANITIZE)
  target_compile_options(nd_options INTERFACE
    -fsanitize=${ND_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(nd_options INTERFACE -fsanitize=${ND_SANITIZE})
endif()

# nd_precompile(NAME [FOR_PROGRAMS] LINK ... HEADERS ...): the headers, compiled
# once for the libraries, or programs, that nd_use_precompiled gives them to. LINK
# is what the headers need: what it defines, those targets must define too. Programs
# are compiled with -pthread, which comes with some of the libraries only.
function(nd_precompile name)
  if(NOT ND_PCH)
    return()
  endif()
  cmake_parse_arguments(arg "FOR_PROGRAMS" "" "LINK;HEADERS" ${ARGN})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${name}.cc)
  file(CONFIGURE OUTPUT ${source} CONTENT "// Has only precompiled headers.\n")
  add_library(${name} OBJECT ${source})
  target_link_libraries(${name} PRIVATE nd_options ${arg_LINK})
  target_precompile_headers(${name} PRIVATE ${arg_HEADERS})
  if(arg_FOR_PROGRAMS)
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${name} PRIVATE -fPIE -pthread)
  endif()
endfunction()

function(nd_use_precompiled target name)
  if(NOT ND_PCH)
    return()
  endif()
  target_precompile_headers(${target} REUSE_FROM ${name})
  get_target_property(type ${target} TYPE)
  if(type STREQUAL EXECUTABLE)
    target_compile_options(${target} PRIVATE -pthread)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    # For ccache, which preprocesses on its own. A precompiled header that does
    # not fit costs time only.
    target_compile_options(${target} PRIVATE
      -fpch-preprocess -Wno-error=invalid-pch)
  endif()
endfunction()

# nd_floor(NAME SOURCES ... HEADERS ... LINK ... [PRECOMPILED NAME]): one static
# library a folder. Its headers are named from the top of src/ ("base/clock.h").
#
# Each header compiles alone. Where x.cc includes x.h first, which a test of the
# tree demands, it shows that: in preset analyze, where nothing precompiled stands
# in front of it. all_verify_interface_header_sets compiles the others.
function(nd_floor name)
  cmake_parse_arguments(arg "" "PRECOMPILED" "SOURCES;HEADERS;LINK;PRIVATE_LINK" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  set(compiled ${arg_SOURCES})
  list(TRANSFORM compiled REPLACE "\\.cc$" ".h")
  set(shown ${arg_HEADERS})
  set(unshown ${arg_HEADERS})
  list(REMOVE_ITEM unshown ${compiled})
  list(REMOVE_ITEM shown ${unshown})
  target_sources(${name} PUBLIC
    FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/src FILES ${unshown}
    FILE_SET shown TYPE HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/src FILES ${shown})
  set_property(TARGET ${name} PROPERTY INTERFACE_HEADER_SETS_TO_VERIFY HEADERS)
  target_link_libraries(${name} PUBLIC ${arg_LINK} PRIVATE nd_options ${arg_PRIVATE_LINK})
  if(arg_PRECOMPILED)
    nd_use_precompiled(${name} ${arg_PRECOMPILED})
  endif()
endfunction()

# nd_public_headers(NAME FILE...): what applications include of a floor, from
# include/nd.
function(nd_public_headers name)
  set(files ${ARGN})
  list(TRANSFORM files PREPEND ${PROJECT_SOURCE_DIR}/include/nd/)
  target_sources(${name} PUBLIC FILE_SET nd_public TYPE HEADERS
    BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${files})
  set_property(TARGET ${name} APPEND PROPERTY
    INTERFACE_HEADER_SETS_TO_VERIFY nd_public)
endfunction()
