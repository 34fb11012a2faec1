/* testing/data: where the tests' data lies, and skipping where it does not. Everything here is
 * Local. */
#ifndef LODE_TESTING_DATA_H
#define LODE_TESTING_DATA_H

enum { LODE_TEST_SKIP = 77 };

/* Path of `relative` in the data folder: $LODE_DATA, else ../shared/data from the working
 * directory (the project's root under ctest). Returns a static buffer that the next call but seven
 * overwrites; NULL where the file or folder is absent. */
const char *lode_test_data(const char *relative);

/* Ends the program with exit status 77 and a line that says what is missing, where the data folder
 * lacks `relative`. */
void lode_test_require(const char *relative);

/* The goldens of single families (tests/golden/families.py), from the project's root: one folder
 * for each case, and so many at the least. */
#define LODE_TEST_FAMILIES "tests/golden/families"
enum { LODE_TEST_FAMILIES_LEAST = 17 };

/* Calls `check` with the name of each such folder, in the order of the names; returns how many
 * there are. */
int lode_test_families(void (*check)(const char *name));

#endif
