# Finds the C library of a parallel HDF5 and refuses a serial one.
#   Lode::HDF5
# Looks, in this order, at HDF5_ROOT, at pkg-config's hdf5-openmpi / hdf5-mpich / hdf5, at CMake's
# own FindHDF5 (which asks h5pcc, as module systems provide it).
set(lode_hdf5_found FALSE)
if(NOT HDF5_ROOT AND NOT DEFINED ENV{HDF5_ROOT} AND NOT DEFINED ENV{HDF5_DIR})
  foreach(name hdf5-openmpi hdf5-mpi hdf5)
    if(NOT lode_hdf5_found)
      pkg_check_modules(LODE_HDF5_${name} QUIET IMPORTED_TARGET ${name})
      if(LODE_HDF5_${name}_FOUND)
        set(lode_hdf5_target PkgConfig::LODE_HDF5_${name})
        set(lode_hdf5_includes ${LODE_HDF5_${name}_INCLUDE_DIRS})
        set(lode_hdf5_found TRUE)
      endif()
    endif()
  endforeach()
endif()
if(NOT lode_hdf5_found)
  set(HDF5_PREFER_PARALLEL ON)
  find_package(HDF5 QUIET COMPONENTS C)
  if(HDF5_FOUND)
    add_library(lode_hdf5_plain INTERFACE IMPORTED)
    set_target_properties(lode_hdf5_plain PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES "${HDF5_INCLUDE_DIRS}"
      INTERFACE_LINK_LIBRARIES "${HDF5_LIBRARIES}")
    set(lode_hdf5_target lode_hdf5_plain)
    set(lode_hdf5_includes ${HDF5_INCLUDE_DIRS})
    set(lode_hdf5_found TRUE)
  endif()
endif()
if(NOT lode_hdf5_found)
  message(FATAL_ERROR "HDF5 was not found. Install the parallel HDF5 of your MPI "
    "(Debian: libhdf5-openmpi-dev; clusters: module load hdf5-mpi or phdf5) or set HDF5_ROOT.")
endif()

include(CheckCSourceCompiles)
set(CMAKE_REQUIRED_LIBRARIES ${lode_hdf5_target} MPI::MPI_C)
set(CMAKE_REQUIRED_INCLUDES ${lode_hdf5_includes})
check_c_source_compiles("
  #include <hdf5.h>
  #ifndef H5_HAVE_PARALLEL
  #error serial
  #endif
  int main(void) { return H5Pset_fapl_mpio(H5P_DEFAULT, MPI_COMM_WORLD, MPI_INFO_NULL) < 0; }
  " LODE_HDF5_IS_PARALLEL)
unset(CMAKE_REQUIRED_LIBRARIES)
unset(CMAKE_REQUIRED_INCLUDES)
if(NOT LODE_HDF5_IS_PARALLEL)
  message(FATAL_ERROR "The HDF5 that was found (${lode_hdf5_includes}) is serial, or was built for "
    "another MPI. Lodestone's ranks write one file together: install the parallel HDF5 of your MPI "
    "(Debian: libhdf5-openmpi-dev; clusters: module load hdf5-mpi or phdf5) or point HDF5_ROOT at it.")
endif()
if(NOT TARGET Lode::HDF5)
  add_library(Lode::HDF5 INTERFACE IMPORTED)
  set_target_properties(Lode::HDF5 PROPERTIES INTERFACE_LINK_LIBRARIES ${lode_hdf5_target})
endif()
set(LodeHDF5_FOUND TRUE)
