cmake_minimum_required(VERSION 3.22)
# Writes OUTPUT, a header with the commit of SOURCE, only where it changed.
cmake_policy(VERSION 3.22)
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed OR NOT commit)
  set(commit "unknown")
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#define LODE_COMMIT \"@commit@\"\n" @ONLY)
