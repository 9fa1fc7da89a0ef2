"""The model families of this stage: name in the catalog to import path, loaded when used."""

FAMILIES = {
    "kandinsky-2-1": "services.decoder.families.kandinsky_2_1:decoder",
    "kandinsky-2-2": "services.decoder.families.kandinsky_2_2:decoder",
    "kandinsky-3": "services.decoder.families.kandinsky_3:decoder",
    "karlo": "services.decoder.families.karlo:decoder",
    "stable-diffusion-inpainting": (
        "services.decoder.families.stable_diffusion_inpainting:decoder"
    ),
    "versatile-diffusion": "services.decoder.families.versatile_diffusion:decoder",
}
