/* testing/cmocka_all: cmocka with the headers it needs before it. */
#ifndef LODE_TESTING_CMOCKA_ALL_H
#define LODE_TESTING_CMOCKA_ALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
