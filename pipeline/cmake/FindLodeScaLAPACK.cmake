# Finds ScaLAPACK with its BLACS, built for the MPI in use.
#   Lode::ScaLAPACK
if(NOT LODE_SCALAPACK_LIBRARIES)
  find_library(LODE_SCALAPACK_LIBRARY NAMES scalapack-openmpi scalapack scalapack-mpich
    HINTS $ENV{SCALAPACK_ROOT} $ENV{EBROOTSCALAPACK} PATH_SUFFIXES lib lib64)
  if(NOT LODE_SCALAPACK_LIBRARY)
    message(FATAL_ERROR "ScaLAPACK was not found. Install it for your MPI (Debian: "
      "libscalapack-openmpi-dev; clusters: module load scalapack), set SCALAPACK_ROOT, or set "
      "LODE_SCALAPACK_LIBRARIES (MKL: its scalapack and blacs libraries).")
  endif()
  set(LODE_SCALAPACK_LIBRARIES ${LODE_SCALAPACK_LIBRARY})
endif()

include(CheckCSourceCompiles)
set(CMAKE_REQUIRED_LIBRARIES ${LODE_SCALAPACK_LIBRARIES} Lode::CBLAS MPI::MPI_C)
check_c_source_compiles("
  void Cblacs_pinfo(int *rank, int *size);
  void pdpotrf_(const char *, const int *, double *, const int *, const int *, const int *, int *);
  int main(void) { int r, s; Cblacs_pinfo(&r, &s); return pdpotrf_ == 0; }
  " LODE_SCALAPACK_WORKS)
unset(CMAKE_REQUIRED_LIBRARIES)
if(NOT LODE_SCALAPACK_WORKS)
  message(FATAL_ERROR "${LODE_SCALAPACK_LIBRARIES} does not link with this MPI and BLAS; install "
    "the ScaLAPACK that belongs to them or set LODE_SCALAPACK_LIBRARIES.")
endif()
if(NOT TARGET Lode::ScaLAPACK)
  add_library(Lode::ScaLAPACK INTERFACE IMPORTED)
  set_target_properties(Lode::ScaLAPACK PROPERTIES
    INTERFACE_LINK_LIBRARIES "${LODE_SCALAPACK_LIBRARIES};Lode::CBLAS;MPI::MPI_C")
endif()
set(LodeScaLAPACK_FOUND TRUE)
