# Finds a CBLAS: OpenBLAS (its OpenMP build where there is one, so that BLAS and our own loops share
# one team of threads), else whatever LODE_CBLAS_LIBRARIES and LODE_CBLAS_INCLUDE_DIR name.
#   Lode::CBLAS
if(NOT LODE_CBLAS_LIBRARIES)
  # HINTS come before the system's own paths, where Debian's alternatives may name another build.
  find_library(LODE_OPENBLAS_LIBRARY NAMES openblas
    HINTS $ENV{OPENBLAS_ROOT} $ENV{OPENBLAS_HOME} $ENV{EBROOTOPENBLAS}
          /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp
    PATH_SUFFIXES lib lib64)
  find_path(LODE_OPENBLAS_INCLUDE NAMES cblas.h
    HINTS $ENV{OPENBLAS_ROOT} $ENV{OPENBLAS_HOME} $ENV{EBROOTOPENBLAS}
          /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp
    PATH_SUFFIXES include include/openblas openblas)
  if(NOT LODE_OPENBLAS_LIBRARY OR NOT LODE_OPENBLAS_INCLUDE)
    message(FATAL_ERROR "No CBLAS was found. Install OpenBLAS (Debian: libopenblas-openmp-dev; "
      "clusters: module load openblas), set OPENBLAS_ROOT, or set LODE_CBLAS_LIBRARIES and "
      "LODE_CBLAS_INCLUDE_DIR for another CBLAS.")
  endif()
  set(LODE_CBLAS_LIBRARIES ${LODE_OPENBLAS_LIBRARY})
  set(LODE_CBLAS_INCLUDE_DIR ${LODE_OPENBLAS_INCLUDE})
endif()

include(CheckCSourceCompiles)
set(CMAKE_REQUIRED_LIBRARIES ${LODE_CBLAS_LIBRARIES})
set(CMAKE_REQUIRED_INCLUDES ${LODE_CBLAS_INCLUDE_DIR})
check_c_source_compiles("
  #include <cblas.h>
  int main(void) {
    float a = 1, b = 1, c = 0;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, 1, 1, 1, 1, &a, 1, &b, 1, 0, &c, 1);
    return c != 1;
  }" LODE_CBLAS_WORKS)
check_c_source_compiles("
  #include <cblas.h>
  int main(void) { openblas_set_num_threads(1); return openblas_get_parallel() < 0; }
  " LODE_CBLAS_IS_OPENBLAS)
unset(CMAKE_REQUIRED_LIBRARIES)
unset(CMAKE_REQUIRED_INCLUDES)
if(NOT LODE_CBLAS_WORKS)
  message(FATAL_ERROR "${LODE_CBLAS_LIBRARIES} with ${LODE_CBLAS_INCLUDE_DIR}/cblas.h does not "
    "link as a CBLAS.")
endif()
if(NOT TARGET Lode::CBLAS)
  add_library(Lode::CBLAS INTERFACE IMPORTED)
  set_target_properties(Lode::CBLAS PROPERTIES
    INTERFACE_LINK_LIBRARIES "${LODE_CBLAS_LIBRARIES}"
    INTERFACE_INCLUDE_DIRECTORIES "${LODE_CBLAS_INCLUDE_DIR}")
  if(LODE_CBLAS_IS_OPENBLAS)
    set_target_properties(Lode::CBLAS PROPERTIES
      INTERFACE_COMPILE_DEFINITIONS LODE_HAVE_OPENBLAS=1)
  endif()
endif()
set(LodeCBLAS_FOUND TRUE)
