# The macros of the stand-in. Left out of what Slicer's do: byte code beside the scripts, the
# generic module tests, WITH_SUBDIR, generated files, one folder per build configuration.

include(CTest) # Slicer's too: BUILD_TESTING is on unless it is turned off.

function(_refuse_unknown macro)
  if(ARGN)
    message(FATAL_ERROR "${macro} does not know: ${ARGN}")
  endif()
endfunction()

# Build: each file goes to the folder of the scripted modules by its path relative to the current
# source folder (so ../x would leave the folder). Install: that folder as a whole, whatever else
# was put there. A script may be named without .py; a file that is not there is an error.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  _refuse_unknown(slicerMacroBuildScriptedModule ${MODULE_UNPARSED_ARGUMENTS})
  if(NOT MODULE_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule needs a NAME")
  endif()
  set(folder "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  foreach(kind IN ITEMS SCRIPTS RESOURCES)
    set(copies)
    foreach(file IN LISTS MODULE_${kind})
      if(IS_ABSOLUTE "${file}")
        message(FATAL_ERROR "${kind}: absolute paths are not imitated: ${file}")
      endif()
      if(kind STREQUAL "SCRIPTS" AND NOT file MATCHES "\\.py$")
        string(APPEND file ".py")
      endif()
      if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
        message(FATAL_ERROR "${kind} of ${MODULE_NAME} names a file that is not there: ${file}")
      endif()
      _copy_when_built("${file}" "${folder}/${file}")
      list(APPEND copies "${folder}/${file}")
    endforeach()
    add_custom_target(Copy${MODULE_NAME}${kind} ALL DEPENDS ${copies})
  endforeach()
  install(DIRECTORY "${folder}/" DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}"
    COMPONENT RuntimeLibraries)
endfunction()

# Copies NAME.py and NAME.xml, and nothing else, to the folder of the CLI modules.
function(SlicerMacroBuildScriptedCLI)
  cmake_parse_arguments(CLI "NO_INSTALL;VERBOSE" "NAME;FOLDER" "" ${ARGN})
  _refuse_unknown(SlicerMacroBuildScriptedCLI ${CLI_UNPARSED_ARGUMENTS})
  if(NOT CLI_NAME)
    message(FATAL_ERROR "SlicerMacroBuildScriptedCLI needs a NAME")
  endif()
  set(folder "${CMAKE_BINARY_DIR}/${Slicer_CLIMODULES_BIN_DIR}")
  foreach(file IN ITEMS ${CLI_NAME}.py ${CLI_NAME}.xml)
    _copy_when_built("${file}" "${folder}/${file}")
  endforeach()
  add_custom_target(${CLI_NAME} ALL DEPENDS "${folder}/${CLI_NAME}.py" "${folder}/${CLI_NAME}.xml")
  if(NOT CLI_NO_INSTALL)
    install(FILES ${CLI_NAME}.py ${CLI_NAME}.xml
      DESTINATION "${Slicer_INSTALL_CLIMODULES_BIN_DIR}" COMPONENT Runtime)
  endif()
endfunction()

# Registers py_NAME, which starts Slicer for the self-test in NAME.py.
function(slicer_add_python_unittest)
  cmake_parse_arguments(TEST "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  _refuse_unknown(slicer_add_python_unittest ${TEST_UNPARSED_ARGUMENTS})
  get_filename_component(name "${TEST_SCRIPT}" NAME_WE)
  set(folders "['${CMAKE_CURRENT_BINARY_DIR}', '${CMAKE_CURRENT_SOURCE_DIR}']")
  set(code "import slicer.testing; slicer.testing.runUnitTest(${folders}, '${name}')")
  add_test(NAME py_${TEST_TESTNAME_PREFIX}${name}
    COMMAND ${Slicer_LAUNCHER_EXECUTABLE} --testing ${TEST_SLICER_ARGS} --python-code "${code}")
endfunction()

function(_copy_when_built file target)
  set(source "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
  add_custom_command(OUTPUT "${target}" DEPENDS "${source}"
    COMMAND "${CMAKE_COMMAND}" -E copy "${source}" "${target}")
endfunction()
