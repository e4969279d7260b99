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
set(ND_SANITIZE "" CACHE STRING "Value of -fsanitize=, empty for none")

add_library(nd_options INTERFACE)
target_compile_options(nd_options INTERFACE -Wall -Wextra $<$<BOOL:${ND_WERROR}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  # GCC 12 takes temporaries with a std::vector in them for uninitialized at -O2.
  target_compile_options(nd_options INTERFACE
    $<$<CONFIG:Release>:-Wno-maybe-uninitialized>)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  target_compile_options(nd_options INTERFACE -Wthread-safety)
endif()
if(ND_SANITIZE)
  target_compile_options(nd_options INTERFACE
    -fsanitize=${ND_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(nd_options INTERFACE -fsanitize=${ND_SANITIZE})
endif()

# nd_floor(NAME SOURCES ... HEADERS ... LINK ...): one static library a folder.
# Its headers are named from the top of src/ ("base/clock.h").
function(nd_floor name)
  cmake_parse_arguments(arg "" "" "SOURCES;HEADERS;LINK;PRIVATE_LINK" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_sources(${name} PUBLIC FILE_SET HEADERS
    BASE_DIRS ${PROJECT_SOURCE_DIR}/src FILES ${arg_HEADERS})
  target_link_libraries(${name} PUBLIC ${arg_LINK} PRIVATE nd_options ${arg_PRIVATE_LINK})
endfunction()
