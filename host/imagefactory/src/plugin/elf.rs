//! What the headers of a shared library say. Nothing of it is executed, and every offset in it is
//! treated as hostile: the reader (`object`) checks bounds.

use std::io::Read;
use std::path::Path;

use object::elf;
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};

/// A plugin with a cloud SDK linked in has 30 MB; what has more than this is no plugin.
const LIBRARY_BYTES_MAX: u64 = 1 << 30;

/// What matters of a shared library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ElfFacts {
    /// `ET_DYN`?
    pub(crate) is_shared: bool,
    /// `EM_*`.
    pub(crate) machine: u16,
    /// Names of defined dynamic symbols.
    pub(crate) exports: Vec<String>,
    /// `DT_NEEDED`.
    pub(crate) needed: Vec<String>,
    /// `DT_RPATH` and `DT_RUNPATH`, split at colons.
    pub(crate) run_paths: Vec<String>,
    /// `GNU_STACK` asks for an executable stack, or is missing.
    pub(crate) executable_stack: bool,
    /// `DT_TEXTREL`.
    pub(crate) text_relocations: bool,
    /// `GNU_RELRO`.
    pub(crate) relro: bool,
    /// `DT_BIND_NOW` or its flags.
    pub(crate) bind_now: bool,
    /// Required symbol versions: `GLIBC_2.34`.
    pub(crate) versions: Vec<String>,
    /// Symbol versions that it defines itself.
    pub(crate) defined_versions: Vec<String>,
}

impl ElfFacts {
    /// Reads a library's headers. The error says why it is none.
    pub(crate) fn read(path: &Path) -> Result<ElfFacts, String> {
        let shown = path.display();
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(|error| format!("{shown}: {error}"))?;
        let meta = file.metadata().map_err(|error| format!("{shown}: {error}"))?;
        if !meta.is_file() {
            return Err(format!("{shown} is no regular file"));
        }
        let read = file.take(LIBRARY_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| format!("{shown}: {error}"))?;
        ElfFacts::parse(&bytes).map_err(|error| format!("{shown} is no ELF64 library: {error}"))
    }

    fn parse(bytes: &[u8]) -> Result<ElfFacts, object::read::Error> {
        let file = ElfFile64::<Endianness>::parse(bytes)?;
        let endian = file.endian();
        let header = file.elf_header();
        let mut facts = ElfFacts {
            is_shared: header.e_type(endian) == elf::ET_DYN,
            machine: header.e_machine(endian),
            executable_stack: true,
            ..ElfFacts::default()
        };
        for segment in file.elf_program_headers() {
            match segment.p_type(endian) {
                elf::PT_GNU_STACK => {
                    facts.executable_stack = segment.p_flags(endian) & elf::PF_X != 0;
                }
                elf::PT_GNU_RELRO => facts.relro = true,
                _ => {}
            }
        }
        facts.read_dynamic(&file, endian)?;
        let defined = file.dynamic_symbols().filter(|symbol| symbol.is_definition());
        facts.exports = defined.filter_map(|symbol| Some(symbol.name().ok()?.to_owned())).collect();
        // Linkers define the names of versions and section bounds as absolute symbols.
        facts.exports.retain(|name| {
            !matches!(name.as_str(), "_init" | "_fini" | "_edata" | "_end" | "__bss_start")
        });
        Ok(facts)
    }

    fn read_dynamic(
        &mut self,
        file: &ElfFile64<'_, Endianness>,
        endian: Endianness,
    ) -> Result<(), object::read::Error> {
        let table = file.elf_section_table();
        let data = file.data();
        if let Some((entries, link)) = table.dynamic(endian, data)? {
            let strings = table.strings(endian, data, link)?;
            for entry in entries {
                let text = || {
                    let name = entry.string(endian, strings).ok();
                    name.map(|name| String::from_utf8_lossy(name).into_owned())
                };
                let (tag, value) = (entry.d_tag(endian), entry.d_val(endian));
                match tag as u32 {
                    elf::DT_NEEDED => self.needed.extend(text()),
                    elf::DT_RPATH | elf::DT_RUNPATH => {
                        let text = text().unwrap_or_default();
                        self.run_paths.extend(text.split(':').map(str::to_owned));
                    }
                    elf::DT_TEXTREL => self.text_relocations = true,
                    elf::DT_BIND_NOW => self.bind_now = true,
                    elf::DT_FLAGS => {
                        self.bind_now |= value & u64::from(elf::DF_BIND_NOW) != 0;
                        self.text_relocations |= value & u64::from(elf::DF_TEXTREL) != 0;
                    }
                    elf::DT_FLAGS_1 => self.bind_now |= value & u64::from(elf::DF_1_NOW) != 0,
                    _ => {}
                }
            }
        }
        if let Some((mut definitions, link)) = table.gnu_verdef(endian, data)? {
            let strings = table.strings(endian, data, link)?;
            while let Some((_, mut names)) = definitions.next()? {
                while let Some(name) = names.next()? {
                    let name = name.name(endian, strings)?;
                    self.defined_versions.push(String::from_utf8_lossy(name).into_owned());
                }
            }
        }
        if let Some((mut needs, link)) = table.gnu_verneed(endian, data)? {
            let strings = table.strings(endian, data, link)?;
            while let Some((_, mut versions)) = needs.next()? {
                while let Some(version) = versions.next()? {
                    let name = version.name(endian, strings)?;
                    self.versions.push(String::from_utf8_lossy(name).into_owned());
                }
            }
        }
        Ok(())
    }
}

/// The `EM_*` number of the machine that this program was built for.
pub(crate) fn own_machine() -> Option<u16> {
    match std::env::consts::ARCH {
        "x86_64" => Some(elf::EM_X86_64),
        "aarch64" => Some(elf::EM_AARCH64),
        "powerpc64" => Some(elf::EM_PPC64),
        "s390x" => Some(elf::EM_S390),
        "riscv64" => Some(elf::EM_RISCV),
        _ => None,
    }
}
