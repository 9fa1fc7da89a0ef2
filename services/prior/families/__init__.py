"""The model families of this stage: name in the catalog to import path, loaded when used."""

FAMILIES = {
    "kandinsky-2-1": "services.prior.families.kandinsky_2_2:prior",
    "kandinsky-2-2": "services.prior.families.kandinsky_2_2:prior",
    "karlo": "services.prior.families.karlo:prior",
}
