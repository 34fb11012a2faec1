/* Fuzz target: whatever bytes the file of a machine's rates has, it is refused, or all rates are
 * finite and positive. */
#include <math.h>

#include "plan/machine.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lode_machine_t machine;
    scratch_write("machine", data, size);
    const lode_status_t status = lode_machine_read(&machine, scratch_path("machine"), 3);
    if (status != LODE_OK) {
        require(status == LODE_ERR_FORMAT && lode_error_message()[0] != '\0');
        return 0;
    }
    const double rates[] = {machine.sgemm,         machine.forward, machine.backward, machine.head,
                            machine.head_backward, machine.dgemm,   machine.vector,   machine.disk};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        require(isfinite(rates[i]) && rates[i] > 0);
    require(!machine.measured && machine.threads == 3);
    return 0;
}
