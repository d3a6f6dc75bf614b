# A toolchain file: project() asks for C and C++, of which this extension has none, so that the
# tests run where there is no compiler, and do not wait for CMake to try one.
foreach(language IN ITEMS C CXX)
  set(CMAKE_${language}_COMPILER "${CMAKE_COMMAND}")
  set(CMAKE_${language}_COMPILER_ID_RUN TRUE)
  set(CMAKE_${language}_COMPILER_FORCED TRUE)
endforeach()
