/* linalg/scalapack: prototypes of what is called in BLACS and ScaLAPACK, which have no header of
 * their own. Integers are 32 bits wide, as in every distribution's build. Private to linalg. */
#ifndef LODE_LINALG_SCALAPACK_H
#define LODE_LINALG_SCALAPACK_H

#include <mpi.h>

/* Grids, by the C interface of BLACS. */
int Csys2blacs_handle(MPI_Comm comm);
void Cfree_blacs_system_handle(int handle);
void Cblacs_gridinit(int *context, const char *order, int rows, int columns);
void Cblacs_gridinfo(int context, int *rows, int *columns, int *row, int *column);
void Cblacs_gridexit(int context);

/* C = alpha·op(A)·op(B) + beta·C */
void pdgemm_(const char *transpose_a, const char *transpose_b, const int *m, const int *n,
             const int *k, const double *alpha, const double *a, const int *ia, const int *ja,
             const int *desc_a, const double *b, const int *ib, const int *jb, const int *desc_b,
             const double *beta, double *c, const int *ic, const int *jc, const int *desc_c);

/* Cholesky: factor, solve, invert. */
void pdpotrf_(const char *triangle, const int *n, double *a, const int *ia, const int *ja,
              const int *desc_a, int *info);
void pdpotrs_(const char *triangle, const int *n, const int *right_sides, const double *a,
              const int *ia, const int *ja, const int *desc_a, double *b, const int *ib,
              const int *jb, const int *desc_b, int *info);
void pdpotri_(const char *triangle, const int *n, double *a, const int *ia, const int *ja,
              const int *desc_a, int *info);

/* Eigenvalues, ascending, and optionally vectors of a symmetric matrix. */
void pdsyev_(const char *vectors, const char *triangle, const int *n, double *a, const int *ia,
             const int *ja, const int *desc_a, double *w, double *z, const int *iz, const int *jz,
             const int *desc_z, double *work, const int *work_size, int *info);

#endif
