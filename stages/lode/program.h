/* stages/lode/program: the command line of lode and of the stages' own programs. */
#ifndef LODE_STAGES_LODE_PROGRAM_H
#define LODE_STAGES_LODE_PROGRAM_H

/* `lode <command> …`. Initialises and finalises MPI; returns the exit status. */
int lode_program_main(int argc, char **argv);

/* `lode-<stage> exp.cfg …`: lode run --stages <stage>. */
int lode_program_stage_main(int argc, char **argv, const char *stage);

#endif
