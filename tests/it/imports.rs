//! Which file of `src` imports which, and who owns a type name: no two files import each other, and no type name has owners in
//! two rooms.
//!
//! A file imports another if it names an item that the other defines; re-exports on the way are followed. Unit tests are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use syn::{
    Item, UseTree, Visibility,
    visit::{self, Visit},
};

use super::generated::root;

/// The segments of a path below the crate: `["net", "client"]`.
type ModulePath = Vec<String>;

#[derive(Default)]
struct Module {
    /// The file, below `src`.
    file: String,
    /// Names defined here, with whether the name is a type's.
    items: BTreeMap<String, bool>,
    children: BTreeSet<String>,
    /// Names brought in by `use`, with the paths that they stand for, as written.
    uses: BTreeMap<String, ModulePath>,
    /// Every path that the code names, as written.
    paths: BTreeSet<ModulePath>,
}

struct Source {
    modules: BTreeMap<ModulePath, Module>,
}

impl Source {
    /// The files of `src`, which are parsed once for all tests.
    fn get() -> &'static Self {
        static SOURCE: LazyLock<Source> = LazyLock::new(Source::read);
        &SOURCE
    }

    fn read() -> Self {
        let mut source = Self { modules: BTreeMap::new() };
        source.read_file(&root().join("src/lib.rs"), &mut Vec::new());
        source
    }

    fn read_file(&mut self, file: &Path, path: &mut ModulePath) {
        let text = fs::read_to_string(file).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let src = root().join("src");
        let mut module =
            Module { file: file.strip_prefix(&src).unwrap().display().to_string(), ..Module::default() };
        for item in &parsed.items {
            if is_test(attributes(item)) {
                continue;
            }
            if let Item::Mod(child) = item
                && child.content.is_none()
            {
                let name = child.ident.to_string();
                module.children.insert(name.clone());
                path.push(name);
                self.read_file(&module_file(&src, path), path);
                path.pop();
            }
            module.read_item(item);
        }
        self.modules.insert(path.clone(), module);
    }

    /// The modules that define the items at the end of the path, as seen from the module `at`.
    fn owner<'a>(&'a self, at: &[String], path: &[String], depth: usize) -> Option<&'a ModulePath> {
        if depth > 8 {
            return None;
        }
        let (mut here, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (at.to_vec(), &path[1..]),
            "super" => (at[..at.len().checked_sub(1)?].to_vec(), &path[1..]),
            _ => (at.to_vec(), path),
        };
        loop {
            let name = rest.first()?;
            let (module_path, module) = self.modules.get_key_value(&here)?;
            if name == "super" {
                here.pop();
                rest = &rest[1..];
            } else if module.items.contains_key(name) {
                return Some(module_path);
            } else if let Some(target) = module.uses.get(name) {
                let whole: ModulePath = target.iter().chain(&rest[1..]).cloned().collect();
                return if whole == path && here == at { None } else { self.owner(&here, &whole, depth + 1) };
            } else if module.children.contains(name) {
                here.push(name.clone());
                rest = &rest[1..];
            } else {
                return None;
            }
        }
    }

    /// Pairs of files; the first imports the second.
    fn imports(&self) -> BTreeSet<(&str, &str)> {
        let mut imports = BTreeSet::new();
        for (at, module) in &self.modules {
            for path in &module.paths {
                let owner = self.owner(at, path, 0).filter(|owner| *owner != at);
                if let Some(owner) = owner {
                    imports.insert((module.file.as_str(), self.modules[owner].file.as_str()));
                }
            }
        }
        imports
    }
}

impl Module {
    fn read_item(&mut self, item: &Item) {
        let (name, is_type) = match item {
            Item::Struct(item) => (&item.ident, true),
            Item::Enum(item) => (&item.ident, true),
            Item::Trait(item) => (&item.ident, true),
            Item::Type(item) => (&item.ident, true),
            Item::Union(item) => (&item.ident, true),
            Item::Fn(item) => (&item.sig.ident, false),
            Item::Const(item) => (&item.ident, false),
            Item::Static(item) => (&item.ident, false),
            Item::Use(item) => {
                let mut paths = Vec::new();
                read_use(&item.tree, &mut Vec::new(), &mut paths);
                let is_import = matches!(item.vis, Visibility::Inherited);
                for (name, path) in paths {
                    if is_import {
                        self.paths.insert(path.clone());
                    }
                    self.uses.insert(name, path);
                }
                return;
            }
            other => {
                self.visit_item(other);
                return;
            }
        };
        self.items.insert(name.to_string(), is_type);
        self.visit_item(item);
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// The names that a tree of `use` brings in, with their paths.
fn read_use(tree: &UseTree, path: &mut ModulePath, names: &mut Vec<(String, ModulePath)>) {
    match tree {
        UseTree::Path(tree) => {
            path.push(tree.ident.to_string());
            read_use(&tree.tree, path, names);
            path.pop();
        }
        UseTree::Name(tree) if tree.ident == "self" => {
            names.push((path.last().unwrap().clone(), path.clone()));
        }
        UseTree::Name(tree) => names.push((tree.ident.to_string(), with(path, &tree.ident))),
        UseTree::Rename(tree) => names.push((tree.rename.to_string(), with(path, &tree.ident))),
        UseTree::Group(group) => group.items.iter().for_each(|tree| read_use(tree, path, names)),
        UseTree::Glob(_) => {}
    }
}

fn with(path: &[String], name: &syn::Ident) -> ModulePath {
    path.iter().cloned().chain([name.to_string()]).collect()
}

fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

fn module_file(src: &Path, path: &[String]) -> PathBuf {
    let folder = path.iter().fold(src.to_path_buf(), |folder, name| folder.join(name));
    let file = folder.with_extension("rs");
    if file.is_file() { file } else { folder.join("mod.rs") }
}

#[test]
fn no_two_files_import_each_other() {
    let source = Source::get();
    let imports = source.imports();
    assert!(imports.contains(&("cli/status.rs", "run/batch.rs")), "an import is not seen: {imports:?}");
    let circles: BTreeSet<_> =
        imports.iter().filter(|(from, to)| from < to && imports.contains(&(*to, *from))).copied().collect();
    assert!(circles.is_empty(), "import each other: {circles:#?}");
}

#[test]
fn a_type_name_has_owners_in_one_room_only() {
    let source = Source::get();
    let mut rooms: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, module) in &source.modules {
        for (name, _) in module.items.iter().filter(|(_, is_type)| **is_type) {
            rooms.entry(name).or_default().extend(path.first().map(String::as_str));
        }
    }
    let shared: BTreeMap<_, _> = rooms.into_iter().filter(|(_, rooms)| rooms.len() > 1).collect();
    assert!(shared.is_empty(), "have owners in more than one room: {shared:#?}");
}
