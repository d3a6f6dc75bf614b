# What find_package(Slicer) finds in the tests: a stand-in of Slicer's package, enough to build and
# install a scripted extension without a build of Slicer. Give this folder as Slicer_DIR.
#
# It has the names of the variables and macros that an extension uses, and puts files where
# Slicer's own macros put them (read in Slicer 5.13 and CTK, August 2026).

set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG
  "${CMAKE_CURRENT_LIST_DIR}/SlicerExtensionGenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/SlicerExtensionCPack.cmake")
set(Slicer_LAUNCHER_EXECUTABLE "Slicer")

# Relative to the build tree and, as on Linux and Windows, to the installed tree. An application's
# name and version are part of it: nothing of the extension may count on this very path.
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-5.12/qt-scripted-modules")
set(Slicer_CLIMODULES_BIN_DIR "lib/Slicer-5.12/cli-modules")
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "./${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
set(Slicer_INSTALL_CLIMODULES_BIN_DIR "./${Slicer_CLIMODULES_BIN_DIR}")
