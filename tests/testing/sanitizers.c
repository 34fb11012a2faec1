/* What every program has under sanitizers, lode itself too, because of Open MPI's plugins. Both
 * functions are exported, and come before those of the C library and of the sanitizers' runtime. */
#include <dlfcn.h>

const char *__asan_default_options(void);

/* Open MPI unloads its plugins before AddressSanitizer looks for leaks, whose stacks and
 * thread-local blocks then lie in no library that tests/lsan.supp could name. They stay. */
int dlclose(void *handle) {
    (void)handle;
    return 0;
}

/* AddressSanitizer asks for the bounds of the plugins' thread-local blocks in what old C libraries
 * wrote in front of a block that begins 16 bytes into a page. Its own allocator puts other things
 * there, and the search for leaks would read at an address that is none, wherever a block happens
 * to begin so. Blocks that the loader allocates are not taken for leaks without that. */
const char *__asan_default_options(void) {
    return "intercept_tls_get_addr=0";
}
