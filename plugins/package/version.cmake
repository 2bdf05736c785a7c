# Sets SN_VERSION, the project's, which sn_deploy/__init__.py alone states; 0 of a copy of this folder by itself.
set(SN_VERSION 0)
set(SN_VERSION_FILE ${CMAKE_CURRENT_LIST_DIR}/../../sn_deploy/__init__.py)
if(EXISTS ${SN_VERSION_FILE})
  file(STRINGS ${SN_VERSION_FILE} SN_VERSION_LINE REGEX "^__version__ = ")
  string(REGEX MATCH "[0-9]+(\\.[0-9]+)*" SN_VERSION "${SN_VERSION_LINE}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${SN_VERSION_FILE})
endif()
