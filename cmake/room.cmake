# tandem_room(engine/gguf
#   SOURCES reader.cc writer.cc        the room's translation units, listed
#   TESTS reader_test.cc               unit tests beside the code; one binary a room
#   DEPS base os                       rooms that it may include (tools/layers.txt says which)
#   LIBS PkgConfig::pcre2              outside libraries
#   TEST_DEPS ...                      rooms that only the tests need
#   THREADS                            its tests start threads: `./dev check tsan` runs them
# )
# makes the static library tandem_engine_gguf and the test engine_gguf_test.
set(TANDEM_WARNINGS -Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
    -Wimplicit-fallthrough -Wno-missing-designated-field-initializers)

function(tandem_target_name out room)
  string(REPLACE "/" "_" name "${room}")
  set(${out} "tandem_${name}" PARENT_SCOPE)
endfunction()

# The compile settings that every target of ours shares.
function(tandem_compile_options target)
  target_compile_options(${target} PRIVATE ${TANDEM_WARNINGS})
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  if(TANDEM_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${TANDEM_SANITIZE} -fno-omit-frame-pointer
                                             -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${TANDEM_SANITIZE})
    # Half of a sanitizer build's time would go into optimising; only what computes is worth it.
    if(target MATCHES "^(tandem_)?(engine|golden)")
      target_compile_options(${target} PRIVATE -O1)
    endif()
  endif()
  if(TANDEM_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()

# Adds a test executable to ctest; tests run from the source tree's root so that they find testdata/.
function(tandem_test name)
  cmake_parse_arguments(T "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  tandem_compile_options(${name})
  # Where testdata/ is, for a test that is run by hand from somewhere else.
  target_compile_definitions(${name} PRIVATE TANDEM_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  foreach(dep ${T_DEPS})
    tandem_target_name(lib ${dep})
    target_link_libraries(${name} PRIVATE ${lib})
  endforeach()
  target_link_libraries(${name} PRIVATE ${T_LIBS} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
endfunction()

function(tandem_room room)
  cmake_parse_arguments(R "THREADS" "" "SOURCES;TESTS;DEPS;LIBS;TEST_DEPS;TEST_LIBS" ${ARGN})
  tandem_target_name(target ${room})
  if(R_SOURCES)
    add_library(${target} STATIC ${R_SOURCES})
    tandem_compile_options(${target})
    set(scope PUBLIC)
  else()
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE ${PROJECT_SOURCE_DIR}/src)
    set(scope INTERFACE)
  endif()
  foreach(dep ${R_DEPS})
    tandem_target_name(lib ${dep})
    target_link_libraries(${target} ${scope} ${lib})
  endforeach()
  target_link_libraries(${target} ${scope} ${R_LIBS})
  if(R_TESTS)
    string(REPLACE "/" "_" name "${room}")
    tandem_test(${name}_test SOURCES ${R_TESTS} DEPS ${room} ${R_TEST_DEPS} LIBS ${R_TEST_LIBS})
    if(R_THREADS)
      set_tests_properties(${name}_test PROPERTIES LABELS threads)
    endif()
  endif()
endfunction()
