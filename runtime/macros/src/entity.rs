//! `#[derive(Entity)]`: the kind, the dispatch table, and what each message is to the entity.

use std::collections::BTreeMap;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, ExprPath, Ident, LitStr, Path, Result, Token, parenthesized};

/// `Deposit` or `bank::Deposit as "deposit.v2"`.
struct Listed {
    path: Path,
    name: LitStr,
}

impl Parse for Listed {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let path: Path = input.parse()?;
        let name = if input.peek(Token![as]) {
            input.parse::<Token![as]>()?;
            let name: LitStr = input.parse().map_err(|error| {
                Error::new(
                    error.span(),
                    "a wire name is a string: Deposit as \"deposit.v2\"",
                )
            })?;
            if name.value().is_empty() {
                return Err(Error::new(name.span(), "a wire name is not empty"));
            }
            name
        } else {
            let last = path.segments.last().expect("a path has a segment");
            LitStr::new(&last.ident.to_string(), last.ident.span())
        };
        Ok(Self { path, name })
    }
}

/// The content of all `entity(..)` attributes.
#[derive(Default)]
struct Options {
    kind: Option<LitStr>,
    initial: Option<ExprPath>,
    commands: Option<Vec<Listed>>,
    queries: Option<Vec<Listed>>,
}

impl Options {
    fn read(&mut self, input: ParseStream<'_>) -> Result<()> {
        while !input.is_empty() {
            let option: Ident = input.parse()?;
            match option.to_string().as_str() {
                "kind" => {
                    input.parse::<Token![=]>()?;
                    let kind: LitStr = input.parse()?;
                    if kind.value().is_empty() || kind.value().contains('/') {
                        return Err(Error::new(
                            kind.span(),
                            "a kind has a name, without `/`: kind = \"account\"",
                        ));
                    }
                    once(&mut self.kind, kind, &option)?;
                }
                "initial" => {
                    input.parse::<Token![=]>()?;
                    let path = input.parse().map_err(|error| {
                        Error::new(
                            error.span(),
                            "name a function from the key: initial = Account::open",
                        )
                    })?;
                    once(&mut self.initial, path, &option)?;
                }
                "commands" => once(&mut self.commands, list(input)?, &option)?,
                "queries" => once(&mut self.queries, list(input)?, &option)?,
                _ => {
                    return Err(Error::new(
                        option.span(),
                        format!(
                            "unknown option `{option}`; there are kind, commands, queries and initial"
                        ),
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }
}

fn once<T>(slot: &mut Option<T>, value: T, option: &Ident) -> Result<()> {
    if slot.replace(value).is_some() {
        return Err(Error::new(
            option.span(),
            format!("`{option}` is given twice"),
        ));
    }
    Ok(())
}

fn list(input: ParseStream<'_>) -> Result<Vec<Listed>> {
    let inner;
    parenthesized!(inner in input);
    Ok(Punctuated::<Listed, Token![,]>::parse_terminated(&inner)?
        .into_iter()
        .collect())
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "an entity is one concrete type, because its kind names it on disk; remove the generic parameters",
        ));
    }
    let mut options = Options::default();
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("entity")) {
        attribute.parse_args_with(|input: ParseStream<'_>| options.read(input))?;
    }
    let Some(kind) = options.kind else {
        return Err(Error::new_spanned(
            &input.ident,
            "an entity names its kind: add #[entity(kind = \"..\", commands(..), queries(..))]",
        ));
    };
    let commands = options.commands.unwrap_or_default();
    let queries = options.queries.unwrap_or_default();
    refuse_repetition(commands.iter().chain(&queries))?;

    let entity = &input.ident;
    let initial = match &options.initial {
        Some(path) => quote_spanned!(path.span()=> #path(key)),
        None => quote_spanned!(entity.span()=> {
            let _ = key;
            <Self as ::core::default::Default>::default()
        }),
    };
    let command_rows = commands.iter().map(|Listed { path, .. }| {
        quote_spanned!(path.span()=>
            table.command::<#path>(|result: &<#path as ::synod::Message>::Result| (&Probe(result)).failed());
        )
    });
    let query_rows = queries
        .iter()
        .map(|Listed { path, .. }| quote_spanned!(path.span()=> table.query::<#path>();));
    let marks = commands
        .iter()
        .map(|listed| (quote!(CommandOf), listed))
        .chain(queries.iter().map(|listed| (quote!(QueryOf), listed)))
        .map(|(role, Listed { path, name })| {
            quote_spanned!(path.span()=>
                #[automatically_derived]
                impl ::synod::#role<#entity> for #path {
                    const NAME: &'static str = #name;
                }
            )
        });
    Ok(quote! {
        #[automatically_derived]
        impl ::synod::Entity for #entity {
            const KIND: &'static str = #kind;

            fn initial(key: &str) -> Self {
                #initial
            }

            #[allow(unused_imports, clippy::needless_borrow, reason = "which trait applies depends on the result types")]
            fn dispatch(table: &mut ::synod::entity::Dispatch<Self>) {
                use ::synod::entity::derived::{FailedAsResult as _, FailedNever as _, Probe};
                #(#command_rows)*
                #(#query_rows)*
            }
        }
        #(#marks)*
    })
}

fn refuse_repetition<'a>(all: impl Iterator<Item = &'a Listed>) -> Result<()> {
    let mut seen = BTreeMap::new();
    for listed in all {
        if seen.insert(listed.name.value(), ()).is_some() {
            return Err(Error::new(
                listed.name.span(),
                format!(
                    "the wire name `{}` is used twice; rename one with `as \"..\"`",
                    listed.name.value()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn said(input: DeriveInput) -> String {
        expand(&input).expect_err("it must not expand").to_string()
    }

    #[test]
    fn what_is_wrong_is_said_in_one_sentence() {
        // What bad input gets: a clear error that names the thing and the fix.
        let cases: [(DeriveInput, &str); 6] = [
            (parse_quote! { struct A; }, "an entity names its kind"),
            (
                parse_quote! { #[entity(kind = "a/b")] struct A; },
                "without `/`",
            ),
            (
                parse_quote! { #[entity(kind = "a", comands(B))] struct A; },
                "unknown option `comands`",
            ),
            (
                parse_quote! { #[entity(kind = "a", commands(B), queries(c::B))] struct A; },
                "the wire name `B` is used twice",
            ),
            (
                parse_quote! { #[entity(kind = "a", kind = "b")] struct A; },
                "`kind` is given twice",
            ),
            (
                parse_quote! { #[entity(kind = "a")] struct A<T>(T); },
                "one concrete type",
            ),
        ];
        for (input, expected) in cases {
            let text = said(input);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn wire_names_come_from_the_list() {
        // Section 4: never from type names as the compiler sees them.
        let text = expand(&parse_quote! {
            #[entity(kind = "account", commands(bank::Deposit as "deposit.v2", bank::Withdraw), initial = Account::open)]
            struct Account { balance: u64 }
        })
        .expect("a good entity")
        .to_string();
        assert!(text.contains("\"deposit.v2\""));
        assert!(text.contains("\"Withdraw\""));
        assert!(text.contains("Account :: open (key)"));
    }
}
