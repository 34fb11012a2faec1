#include "lode/program.h"

int main(int argc, char **argv) {
    return lode_program_stage_main(argc, argv, "train");
}
