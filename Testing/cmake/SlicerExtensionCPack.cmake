# Slicer's packs the installed tree as it is, with a description made of the EXTENSION_ variables;
# like here, it refuses an extension whose license file is not there.
foreach(variable IN ITEMS HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${variable}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${variable} is not set")
  endif()
endforeach()
if(NOT EXISTS "${EXTENSION_LICENSE_FILE}")
  message(FATAL_ERROR "EXTENSION_LICENSE_FILE is not there: ${EXTENSION_LICENSE_FILE}")
endif()
